"""Point 9 of the optimizers: two ranks equal one process on the whole batch, and take the same decisions.

Both ranks are programs of their own on this machine, joined by gloo, started once for all subjects.
"""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sam_bench.contract.problem import SAMPLES, Closure, net, weights
from sam_bench.contract.result import Broken, NotApplicable, point
from sam_bench.contract.subject import Subject

RANKS, STEPS = 2, 7
START_LIMIT = 200.0  # seconds until both ranks are there
LIMIT = 20.0  # seconds that a rank waits for the other; two that disagree would wait forever
TOLERANCE = 1e-6  # Adam divides by the size of the gradient and so magnifies rounding, LookSAM by that of g_v

Runs = dict[str, Any]


class Share(Closure):
    """The part of the batch that belongs to `rank` (None: all of it)."""

    def __init__(self, model: nn.Module, step: int, rank: int | None, **mischief: Any):
        super().__init__(model, step, dtype=torch.float64, **mischief)
        if rank is not None:
            self.x, self.y, self.samples = (t.chunk(RANKS)[rank] for t in (self.x, self.y, self.samples))


# -- what each rank trains -------------------------------------------------------------------------------------------


def train(subject: Subject, rank: int | None, bad: int | None = None, **options: Any) -> Runs:
    """Weights and counters after some steps of one rank, or of one process (None); in step `bad` rank 1 meets a NaN."""
    model = net(dtype=torch.float64)
    shown = model if rank is None else DistributedDataParallel(model)
    optimizer = subject.make(shown, "itself" if subject.plain else "adam", **options)
    for step in range(STEPS):
        spoil = nan if rank == 1 and step == bad else None
        subject.step(optimizer, Share(shown, step, rank, mischief=spoil))
    counters = {k: v for k, v in getattr(optimizer, "memory", {}).items() if isinstance(v, int)}
    return {"w": weights(model), "counts": counters}


def nan(model: nn.Module, losses: Tensor) -> Tensor:
    """The loss of this rank is NaN."""
    return losses * torch.nan


def pieces(subject: Subject, rank: int | None) -> str | int | None:
    """The m_sharpness of a rank, or what it is in one process; None where that has none."""
    return "device" if rank is not None else SAMPLES // RANKS


def runs(subject: Subject, rank: int | None) -> Runs:
    """All that one rank trains of one subject; `error` holds what it raised."""
    found: Runs = {}
    try:
        found["whole"] = train(subject, rank)
        if subject.ours and rank is not None:
            found["bad"] = train(subject, rank, bad=2)
        if "m_sharpness" in subject.takes and subject.claims.one_process:
            found["device"] = train(subject, rank, m_sharpness=pieces(subject, rank))
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return found


def main(folder: Path, rank: int) -> None:
    """The program of one rank."""
    torch.set_num_threads(1)
    job = pickle.loads((folder / "job").read_bytes())
    sys.path[:] = job["path"]
    subjects = pickle.loads(job["subjects"])
    _meet(folder, rank)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=RANKS,
                            timeout=timedelta(seconds=LIMIT))  # fmt: skip
    for subject in subjects:
        torch.save(runs(subject, rank), folder / f"{subject.name}.{rank}")
    with suppress(RuntimeError):
        dist.barrier()


def _meet(folder: Path, rank: int) -> None:
    """Wait for the other rank, which may import torch slowly on a busy machine. LIMIT applies afterwards."""
    (folder / f"ready.{rank}").touch()
    until = time.monotonic() + START_LIMIT
    while time.monotonic() < until and not all((folder / f"ready.{other}").exists() for other in range(RANKS)):
        time.sleep(0.02)


# -- starting them ---------------------------------------------------------------------------------------------------


def across_ranks(subjects: Sequence[Subject]) -> dict[str, list[Runs]]:
    """The results of both ranks for each subject, by name; raises NotApplicable if no other process can make it."""
    try:
        job = {"path": sys.path, "subjects": pickle.dumps(list(subjects))}
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise NotApplicable(
            f"a second process cannot make it ({error}): define the class at the top of a module that can be imported"
        ) from error
    with tempfile.TemporaryDirectory(prefix="sam_bench-ranks-") as name:
        folder = Path(name)
        (folder / "job").write_bytes(pickle.dumps(job))
        said = _start(folder, START_LIMIT + 3 * LIMIT * len(subjects))
        found = {s.name: [_read(folder / f"{s.name}.{rank}") for rank in range(RANKS)] for s in subjects}
    if not any(found[subject.name][0] for subject in subjects) and "Error: " in said:
        raise NotApplicable(f"a second process cannot make it: {said.strip().splitlines()[-1]}")
    return found


def _start(folder: Path, seconds: float) -> str:
    """Run both ranks to their end or to the time limit; returns the stderr of the first."""
    code = "import sys; from pathlib import Path; from sam_bench.contract import ranks; "
    code += "ranks.main(Path(sys.argv[1]), int(sys.argv[2])); import os; os._exit(0)"  # gloo's threads may abort
    package = str(Path(__file__).parents[2])
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }  # fmt: skip
    with open(folder / "stderr", "w") as log:
        started = [
            subprocess.Popen([sys.executable, "-c", code, folder, str(rank)], env=environment, stderr=log)
            for rank in range(RANKS)
        ]
        try:
            for process in started:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=seconds)
        finally:
            for process in started:
                process.kill()
                process.wait()
    return (folder / "stderr").read_text(errors="replace")


def _read(path: Path) -> Runs:
    return torch.load(path) if path.exists() else {}


# -- the point -------------------------------------------------------------------------------------------------------


@point("9", "two ranks (DDP) equal one process on the whole batch and take the same decisions",
       "Let every scalar that decides something be the mean over the ranks (sam_bench.optim.distributed.agree), and "
       "test for NaN on all ranks at once (all_finite): a rank that decides alone waits for good.")  # fmt: skip
def ranks(subject: Subject, started: dict[str, list[Runs]] | None = None) -> str:
    """Compare weights and counters of both ranks with each other and with one process; `started` are earlier runs."""
    first, second = (across_ranks([subject]) if started is None else started)[subject.name]
    for number, found in enumerate((first, second)):
        if "error" in found or "whole" not in found:
            raise Broken(
                f"rank {number}: {found.get('error', 'it gave no answer, because the ranks wait for each other')}"
            )
    for run, said in (("whole", ""), ("bad", " after a NaN on one of them"), ("device", " with m_sharpness=device")):
        if run in first and not torch.equal(first[run]["w"], second[run]["w"]):
            raise Broken(f"the two ranks have different weights{said}")
        if run in first and first[run]["counts"] != second[run]["counts"]:
            raise Broken(
                f"the two ranks have different counters{said}: {first[run]['counts']} and {second[run]['counts']}"
            )
    if "bad" in first and first["bad"]["counts"]["skipped"] != 1:
        raise Broken("a NaN on one rank does not skip the step on both")
    if not subject.claims.one_process:
        return (
            f"both ranks agree over {STEPS} steps; each chooses among its own samples, so they differ from one process"
        )
    alone = train(subject, None)
    if alone["counts"] != first["whole"]["counts"]:
        raise Broken(f"two ranks count {first['whole']['counts']}, one process {alone['counts']}")
    difference = (alone["w"] - first["whole"]["w"]).abs().max().item()
    if not difference <= TOLERANCE:
        raise Broken(f"after {STEPS} steps a weight differs by {difference:.1e} from that of one process")
    return f"{STEPS} steps: the ranks are equal, and within {difference:.0e} of one process"
