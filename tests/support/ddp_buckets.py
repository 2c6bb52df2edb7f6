"""Trains methods under DistributedDataParallel with one rank, and without; prints a line for each method and kind.

As a program (`python -m support.ddp_buckets FILE`), because a process group that is destroyed while Python's lock is
held can wait for ever: this process ends without destroying it. FILE is where the rank would meet others.
"""

import os
import sys

import torch
from torch import nn

from support.methods import Closure, make, net, weights

NAMES = ("sam", "looksam", "gsam", "fsam", "graphsam", "vsam", "msam", "extrapolated_sgd")


def same(name: str, view: bool) -> bool:
    """Whether five steps end in the same weights with and without DistributedDataParallel."""
    plain, inner = net(), net()
    model = nn.parallel.DistributedDataParallel(inner, gradient_as_bucket_view=view)
    optimizer, reference = make(name, model, "adam"), make(name, plain, "adam")
    for step in range(5):
        optimizer.step(Closure(model, step))
        reference.step(Closure(plain, step))
    return torch.equal(weights(inner), weights(plain))


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
    for view in (False, True):
        for name in NAMES:
            print(name, view, same(name, view), flush=True)
    os._exit(0)
