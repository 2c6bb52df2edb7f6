"""DistributedDataParallel on two processes of this machine: AE-LookSAM around Adam, on scikit-learn's digits.
Command: torchrun --standalone --nproc-per-node 2 examples/ddp.py
Expected output: test accuracy 0.942, 1.16 passes per step, all ranks equal: True
"""

import time

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset, random_split
from torch.utils.data.distributed import DistributedSampler

from sam_bench.optim import AELookSAM

EPOCHS = 15


def main() -> None:
    """Train on this rank's share of the samples; rank 0 prints the result."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the same weights and the same split on every rank
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    train, test = random_split(data, [1437, 360])
    sampler = DistributedSampler(train)
    loader = DataLoader(train, batch_size=32, sampler=sampler)

    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)))
    base = torch.optim.Adam(model.parameters(), lr=3e-3)
    # All ranks have the same gradient and decide alike whether to take a second one, so no rank waits for ever.
    optimizer = AELookSAM(base, model, rho=0.05, total_steps=EPOCHS * len(loader))

    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for x, y in loader:

            def closure(x=x, y=y):
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)

    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    others = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(others, flat)
    x, y = test[:]
    accuracy = (model.module(x).argmax(1) == y).float().mean()
    passes = optimizer.memory["grad_evals"] / optimizer.memory["step"]
    if dist.get_rank() == 0:
        equal = all(torch.equal(flat, other) for other in others)
        print(f"test accuracy {accuracy:.3f}, {passes:.2f} passes per step, all ranks equal: {equal}")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    main()
    dist.destroy_process_group()
    time.sleep(1)  # gloo's threads must drop their last tensors: torch 2.13 aborts if Python ends before that
