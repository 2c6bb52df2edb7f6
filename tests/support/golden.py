"""The recorded runs as a whole, where they lie in `$SAM_BENCH_GOLDEN` or `../shared/golden`, and the page on them.

As a program this file prints the table of docs/optimizers/golden.md.
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np

from sam_bench.contract import golden
from sam_bench.contract.golden import CASES, Golden
from sam_bench.contract.subject import Subject

FOLDER = Path(os.environ.get("SAM_BENCH_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")
KEPT_STEPS = (1, 2, 6, 15, 30, 60)


def load(name: str) -> Golden:
    """The run `name`: whole where the folder is there, else the packed rows."""
    if not (FOLDER / f"{name}.npz").is_file():
        return golden.load(name)
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    with np.load(FOLDER / f"{name}.npz") as stored:
        arrays = dict(stored)
    return golden.golden_of(meta, dict(enumerate(arrays.pop("w"))), arrays)


@cache
def deviation(name: str):
    """Largest difference of any weight after any recorded step, and the optimizer at the end."""
    subject = Subject(CASES[name].method, name)
    return golden.deviation(name, load(name), subject.make, subject.step)


def pack() -> None:
    """Write the packed file from the folder."""
    rows: dict[str, np.ndarray] = {}
    with np.load(FOLDER / "problem.npz") as stored:
        rows |= {f"problem/{key}": stored[key] for key in ("X", "Y", "w0")}
    for name in CASES:
        meta = json.loads((FOLDER / f"{name}.json").read_text())
        run = load(name)
        rows[f"{name}/meta"] = np.array(json.dumps({k: meta[k] for k in ("impl", "commit", "base", "hp") if k in meta}))
        rows |= {f"{name}/w_{step}": run.w[step] for step in KEPT_STEPS if step in run.w}
        rows |= {f"{name}/info_{key}": run.info[key] for key in ("n_forward", "u", "lr", "rho") if key in run.info}
    np.savez_compressed(golden.PACKED, **rows)


def table() -> str:
    """The table of docs/optimizers/golden.md; a deviation below 1e-12 is rounding and printed as such."""
    lines = ["| recorded run | code | method | steps | largest deviation | tolerance |", "|---|---|---|--:|--:|--:|"]
    for name, case in CASES.items():
        run, largest = load(name), deviation(name)[0]
        shown = "< 1e-12" if largest < 1e-12 else f"{largest:.0e}"
        lines.append(f"| {name} | {run.source} | {case.method} | {run.steps} | {shown} | {case.tolerance:.0e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
