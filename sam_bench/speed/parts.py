"""What a pass over a part of a batch really costs: the floor of the methods that compute such passes.

By its rule ESAM takes a forward pass and a pass over half a batch, AUSAM two passes over half a batch. On most models
half a batch takes more than half the time, and no implementation of the method can change that.
"""

import argparse
import copy
import statistics
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from sam_bench.speed.timing import interleave, ratios, show, spread
from sam_bench.speed.workload import Workload


class Pass(NamedTuple):
    """How much of the work of a step one call of the closure is."""

    samples: int
    backward: bool


def measure_parts(workload: Workload, seen: Iterable[Pass], args: argparse.Namespace) -> dict[Pass, list[float]]:
    """Time of each kind of pass over that of a whole pass, turn by turn, on the model alone and on random samples."""
    model, whole = copy.deepcopy(workload.model), Pass(workload.n, True)
    kinds = sorted({kind for kind in seen if kind != whole})
    if not kinds:
        return {}

    def run(kind: Pass, number: int) -> None:
        model.zero_grad(set_to_none=True)
        torch.manual_seed(number)  # the same random depth and dropout in each
        order = torch.randperm(workload.n, generator=torch.Generator().manual_seed(number)).to(workload.device)
        with torch.set_grad_enabled(kind.backward):
            losses = workload.losses(model, None if kind.samples == workload.n else order[: kind.samples])
            if kind.backward:
                losses.mean().backward()

    steps = {str(kind): partial(run, kind) for kind in (whole, *kinds)}
    seconds = interleave({}, args, workload.device, steps, args.steps)
    return {kind: ratios(seconds, str(kind), str(whole)) for kind in kinds}


def beyond_floor(turns: Iterable[Mapping[Pass, int]], ratio: Iterable[float], steps: int,
                 parts: Mapping[Pass, list[float]]) -> dict[str, Any]:  # fmt: skip
    """`floor`: the passes per step with each part at its measured cost; what is measured beyond it, turn by turn."""
    share = {kind: statistics.median(values) for kind, values in parts.items()}
    floors = [sum(count * share.get(kind, 1.0) for kind, count in turn.items()) / steps for turn in turns]
    return {
        "floor": statistics.median(floors),
        "beyond_floor_percent": [100 * (r / floor - 1) for r, floor in zip(ratio, floors, strict=True)],
    }


def rows_of(parts: Mapping[Pass, list[float]], n: int) -> list[dict[str, Any]]:
    """One row per kind of pass, for JSON and the table."""
    return [{"samples": kind.samples, "of": n, "backward": kind.backward, "ratio": parts[kind]} for kind in parts]


def report_parts(rows: Iterable[Mapping[str, Any]]) -> None:
    """A Markdown table; nothing where every pass was whole."""
    lines = [
        [f"{'forward and backward' if row['backward'] else 'forward'}, {row['samples']} of {row['of']} samples",
         f"{row['samples'] / row['of'] / (1 if row['backward'] else 3):.3f}", spread(row["ratio"])]
        for row in rows
    ]  # fmt: skip
    if lines:
        show("Cost of a part of a pass", ["part", "counted as", "time / whole pass"], lines)
