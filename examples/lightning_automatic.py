"""Lightning with automatic optimization: LookSAM around AdamW, on scikit-learn's digits.
Command: python examples/lightning_automatic.py
Expected output: test accuracy 0.967, 1.20 passes per step
"""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from sam_bench.optim import LookSAM


class Classifier(lightning.LightningModule):
    """A small network. Lightning hands training_step and the backward pass to the optimizer as a closure."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

    def configure_optimizers(self):
        # A method with a schedule also takes total_steps=self.trainer.estimated_stepping_batches.
        return LookSAM(torch.optim.AdamW(self.parameters(), lr=3e-3), self, rho=0.05, k=5)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)


def main() -> None:
    """Train, and print the accuracy on the samples that were left out."""
    lightning.seed_everything(0, verbose=False)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    train, test = random_split(data, [1437, 360])
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=15, accelerator="cpu", **quiet)
    model = Classifier()
    trainer.fit(model, DataLoader(train, batch_size=64, shuffle=True))
    x, y = test[:]
    accuracy = (model.eval().net(x).argmax(1) == y).float().mean()
    memory = trainer.optimizers[0].memory
    print(f"test accuracy {accuracy:.3f}, {memory['grad_evals'] / memory['step']:.2f} passes per step")


if __name__ == "__main__":
    main()
