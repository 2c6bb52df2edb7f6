"""Gradient accumulation: a batch of 256 in micro-batches of 64, vSAM around SGD, on scikit-learn's digits.
Command: python examples/gradient_accumulation.py
Expected output: test accuracy 0.972, 1.22 passes per step
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from sam_bench.optim import VSAM

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
train, test = torch.randperm(len(x)).split([1437, 360])

EPOCHS, BATCH, MICRO = 40, 256, 64
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
optimizer = VSAM(base, model, rho=0.05, steps_per_epoch=-(-len(train) // BATCH))


def closure(rows):
    """Forward and backward on the mean loss of one micro-batch; do not divide by the number of micro-batches."""
    loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
    loss.backward()
    return loss


for _epoch in range(EPOCHS):
    for batch in train[torch.randperm(len(train))].split(BATCH):
        parts = batch.split(MICRO)
        # Every pass of the step must see all micro-batches. The sizes are their weights: the last one may be smaller.
        closures = [lambda rows=rows: closure(rows) for rows in parts]
        optimizer.step(optimizer.accumulate(closures, sizes=[len(rows) for rows in parts]))

model.eval()
accuracy = (model(x[test]).argmax(1) == y[test]).float().mean()
passes = optimizer.memory["grad_evals"] / optimizer.memory["step"]
print(f"test accuracy {accuracy:.3f}, {passes:.2f} passes per step")
