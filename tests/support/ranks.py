"""What each rank of the tests of point 9 runs; started as a program, once for all of them."""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from support.methods import METHODS, Closure, batch, make, net, weights

RANKS, STEPS = 2, 7
OWN_SAMPLES = ("ausam", "esam")  # each rank chooses among its own, so one process cannot be equal


class Share(Closure):
    """The part of the batch that belongs to `rank` (None: all of it)."""

    def __init__(self, model, step, rank: int | None, **mischief):
        super().__init__(model, step, dtype=torch.float64, **mischief)
        if rank is not None:
            self.x, self.y, self.samples = (t.chunk(RANKS)[rank] for t in (self.x, self.y, self.samples))


def train(name: str, rank: int | None, **options) -> dict:
    model = net(dtype=torch.float64)
    shown = model if rank is None else DistributedDataParallel(model)
    optimizer = make(name, shown, "adam", **options)
    for step in range(STEPS):
        closure = Share(shown, step, rank)
        optimizer.step(closure, samples=closure.samples)
    return {"w": weights(model), "counts": {k: v for k, v in optimizer.memory.items() if isinstance(v, int)}}


def one_bad_rank(rank: int) -> dict:
    model = net(dtype=torch.float64)
    shown = DistributedDataParallel(model)
    optimizer = make("sam", shown, "adam", m_sharpness="device")
    for step in range(4):
        bad = (lambda m, losses: losses * torch.nan) if rank == 1 and step == 2 else None
        optimizer.step(Share(shown, step, rank, mischief=bad))
    return {"w": weights(model), "counts": {"skipped": optimizer.memory["skipped"]}}


def all_runs(rank: int | None) -> dict:
    runs = {name: train(name, rank) for name in METHODS}
    for name in ("sam", "asam", "gsam", "looksam", "ae_sam", "ae_looksam", "vsam"):
        device = "device" if rank is not None else None if name == "vsam" else len(batch(0)[0]) // RANKS
        runs[f"{name} per device"] = train(name, rank, m_sharpness=device)
    return runs


def main(rank: int, meeting: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    runs = all_runs(rank)
    runs["one bad rank"] = one_bad_rank(rank)
    torch.save(runs, f"{out}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    os._exit(0)  # gloo's threads now and then abort Python's own way out
