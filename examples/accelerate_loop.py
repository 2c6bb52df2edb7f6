"""Hugging Face Accelerate: AE-SAM around Adam, on scikit-learn's digits.
Command: python examples/accelerate_loop.py   (or through `accelerate launch --cpu --num_processes 1`)
Expected output: test accuracy 0.978, 1.41 passes per step
"""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from sam_bench.optim import AESAM

set_seed(0)
digits = load_digits()
data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
train, test = random_split(data, [1437, 360])
loader = DataLoader(train, batch_size=64, shuffle=True)

EPOCHS = 15
accelerator = Accelerator(cpu=True)  # without cpu=True it uses a GPU if there is one
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
model, loader = accelerator.prepare(model, loader)
# Not passed to prepare: in fp16 Accelerate's wrapper would unscale before the closure runs. We pass the scaler instead.
optimizer = AESAM(
    torch.optim.Adam(model.parameters(), lr=3e-3), model, rho=0.05, total_steps=EPOCHS * len(loader),
    scaler=accelerator.scaler,
)  # fmt: skip
accelerator.register_for_checkpointing(optimizer)  # so that save_state and load_state include it

for _epoch in range(EPOCHS):
    for x, y in loader:

        def closure(x=x, y=y):
            loss = nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            return loss

        optimizer.step(closure)

model.eval()
x, y = (part.to(accelerator.device) for part in test[:])
accuracy = (model(x).argmax(1) == y).float().mean()
passes = optimizer.memory["grad_evals"] / optimizer.memory["step"]
accelerator.print(f"test accuracy {accuracy:.3f}, {passes:.2f} passes per step")
