"""Hugging Face Trainer, with its gradient accumulation: GSAM around the Trainer's AdamW, on scikit-learn's digits.
Command: python examples/huggingface_trainer.py   (needs `pip install transformers`)
Expected output: test accuracy 0.975, 2.00 passes per step
"""

import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import random_split
from transformers import Trainer, TrainingArguments, set_seed

from sam_bench.optim import GSAM


class SharpnessAwareTrainer(Trainer):
    """A Trainer that collects the micro-batches of a step and passes them to the optimizer as one closure."""

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            base = super().create_optimizer(model)
            # The Trainer would clip after the update, so clip_norm= clips instead.
            self.optimizer = GSAM(base, self.model, rho=0.05, clip_norm=self.args.max_grad_norm)
            self.update, self.waiting = self.optimizer.step, []
            self.optimizer.step = lambda closure=None: None  # the Trainer calls this; training_step has done the step
        return self.optimizer

    def training_step(self, *micro_batch):
        self.waiting.append(micro_batch)
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)  # the last micro-batch returns the loss of all

        def closure():
            # The Trainer has divided each loss by the number of micro-batches or tokens, so the losses are summed.
            return sum(super(SharpnessAwareTrainer, self).training_step(*each) for each in self.waiting)

        loss = self.update(closure)
        self.waiting = []
        return loss


class Classifier(nn.Module):
    """A small network in the form that the Trainer expects."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def main() -> None:
    """Train, and print the accuracy on the samples that were left out."""
    set_seed(0)
    digits = load_digits()
    pixels = torch.tensor(digits.data, dtype=torch.float32) / 16
    data = [{"x": x, "labels": int(y)} for x, y in zip(pixels, digits.target, strict=True)]
    train, test = random_split(data, [1437, 360])
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            folder, num_train_epochs=15, per_device_train_batch_size=32, gradient_accumulation_steps=2,
            learning_rate=3e-3, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = SharpnessAwareTrainer(Classifier(), options, train_dataset=train)
        trainer.train()
        found = trainer.predict(test)
    accuracy = (found.predictions.argmax(1) == found.label_ids).mean()
    memory = trainer.optimizer.optimizer.memory
    print(f"test accuracy {accuracy:.3f}, {memory['grad_evals'] / memory['step']:.2f} passes per step")


if __name__ == "__main__":
    main()
