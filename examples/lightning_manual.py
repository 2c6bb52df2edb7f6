"""Lightning with manual optimization, for gradient accumulation: LookSAM around AdamW, on scikit-learn's digits.
Command: python examples/lightning_manual.py
Expected output: test accuracy 0.958, 1.20 passes per step
"""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from sam_bench.optim import LookSAM

MICRO_BATCHES = 2  # per step; with Trainer(accumulate_grad_batches=2) the optimizer would see only the last one


class Classifier(lightning.LightningModule):
    """A small network whose steps take two micro-batches."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
        self.waiting = []

    def configure_optimizers(self):
        return LookSAM(torch.optim.AdamW(self.parameters(), lr=3e-3), self, rho=0.05, k=5)

    def training_step(self, batch, batch_idx):
        self.waiting.append(batch)
        if len(self.waiting) < MICRO_BATCHES and not self.trainer.is_last_batch:
            return

        def closure(x, y):
            loss = nn.functional.cross_entropy(self.net(x), y)
            self.manual_backward(loss)
            return loss

        optimizer = self.optimizers()
        closures = [lambda x=x, y=y: closure(x, y) for x, y in self.waiting]
        loss = optimizer.step(optimizer.accumulate(closures, sizes=[len(y) for _, y in self.waiting]))
        self.waiting = []
        self.log("train/loss", loss)


def main() -> None:
    """Train, and print the accuracy on the samples that were left out."""
    lightning.seed_everything(0, verbose=False)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    train, test = random_split(data, [1437, 360])
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=15, accelerator="cpu", **quiet)
    model = Classifier()
    trainer.fit(model, DataLoader(train, batch_size=32, shuffle=True))
    x, y = test[:]
    accuracy = (model.eval().net(x).argmax(1) == y).float().mean()
    memory = trainer.optimizers[0].memory
    print(f"test accuracy {accuracy:.3f}, {memory['grad_evals'] / memory['step']:.2f} passes per step")


if __name__ == "__main__":
    main()
