"""A plain training loop: GraphSAM around Adam, with a schedule and a checkpoint, on scikit-learn's digits.
Command: python examples/plain_loop.py
Expected output: test accuracy 0.969, 1.04 passes per step
"""

import io

import torch
from sklearn.datasets import load_digits
from torch import nn

from sam_bench.optim import GraphSAM

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
train, test = torch.randperm(len(x)).split([1437, 360])

EPOCHS, BATCH = 15, 64
steps_per_epoch = -(-len(train) // BATCH)
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
base = torch.optim.Adam(model.parameters(), lr=3e-3)
optimizer = GraphSAM(base, model, rho=0.05, gamma=0.9, steps_per_epoch=steps_per_epoch)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

for _epoch in range(EPOCHS):
    for rows in train[torch.randperm(len(train))].split(BATCH):

        def closure(rows=rows):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            return loss

        optimizer.step(closure)  # no zero_grad is needed: the optimizer clears the gradients before every pass
    scheduler.step()

checkpoint = io.BytesIO()  # a file in your own code; it contains the states of Adam and GraphSAM
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
checkpoint.seek(0)
optimizer.load_state_dict(torch.load(checkpoint, weights_only=True)["optimizer"])

model.eval()
accuracy = (model(x[test]).argmax(1) == y[test]).float().mean()
passes = optimizer.memory["grad_evals"] / optimizer.memory["step"]
print(f"test accuracy {accuracy:.3f}, {passes:.2f} passes per step")
