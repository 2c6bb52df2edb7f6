"""`sam-bench run`."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sam_bench.api import RunSpec
from sam_bench.commands import beforehand, own_code
from sam_bench.commands.words import need_bench
from sam_bench.errors import UsageError
from sam_bench.store import places
from sam_bench.training import threads, torchrun

if TYPE_CHECKING:
    from sam_bench.store.folder import RunDirectory


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "run", help="train one model with one optimizer (a Hydra application)", add_help=False,
        prefix_chars="\0",  # Hydra reads -m and its other flags
        description="key=value overrides, -m for a Hydra multirun, --cfg job to see the configuration",
    )  # fmt: skip
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One run, or a Hydra multirun. Under torchrun this is one of the processes of a run."""
    need_bench()
    if torchrun.here():  # before torch is imported: its warnings about unused parameters do not matter here
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if not torchrun.first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of this process
    try:
        status = _run(arguments)
    except UsageError:
        if torchrun.first():
            raise
        status = 2  # the first process has said why
    if torchrun.here():
        leave(status)
    return status


def leave(status: int) -> NoReturn:
    """End this process at once, after all is written: gloo's threads sometimes crash Python's normal exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(arguments: argparse.Namespace) -> int:
    from sam_bench.config.compose import application

    words = arguments.arguments
    if "-h" in words:
        words = ["--help" if word == "-h" else word for word in words]
    outcome: list[int] = []
    refused: list[UsageError] = []

    def one(cell: RunSpec) -> None:
        try:
            outcome.append(_run_cell(cell))
        except UsageError as error:  # an exit, because Hydra would print its own text above an exception
            refused.append(error)
            raise SystemExit(2) from error

    try:
        application(words, one)
    except SystemExit as leaving:
        if refused:
            raise refused[0] from None
        return int(leaving.code or 0)
    return max(outcome, default=0)


def _run_cell(cell: RunSpec) -> int:
    from sam_bench.store.folder import RunDirectory
    from sam_bench.store.record import read_record

    results = places.results_dir()
    directory = RunDirectory(results, cell.run_id)
    if not directory.finished or torchrun.several():  # the first process decides for all
        return _make(cell, directory, results)
    print(f"already finished; move {directory.final} away to repeat it")
    if warning := own_code.changed([cell], results):
        print(warning, file=sys.stderr)
    _show_record(read_record(directory.final), directory.final)  # without torch, which takes seconds to import
    return 0


def _make(cell: RunSpec, directory: "RunDirectory", results: Path) -> int:
    """Do a run that is not finished yet, and say how it ended."""
    threads.before_torch()
    beforehand.check([cell], results)
    from sam_bench.config.build import trust_current_folder
    from sam_bench.sweeps.worker import stop_signal
    from sam_bench.training import processes
    from sam_bench.training.life import execute
    from sam_bench.training.loop import NonFiniteLoss, Stopped

    trust_current_folder()
    before = signal.getsignal(signal.SIGINT)
    stop = stop_signal(signal.SIGINT, signal.SIGTERM)
    try:
        with processes.together(cell.config["device"]):
            record = execute(cell, results, report=_report(), stop=stop)
    except processes.RankLost as error:
        print(f"sam-bench: {error} from {directory.working}", file=sys.stderr)
        return 1
    except Stopped:
        if not torchrun.first():
            return 130
        print(f"stopped; run the same command again to resume from {directory.working}", file=sys.stderr)
        return 130
    except NonFiniteLoss as error:
        print(f"sam-bench: failed: {error}\nthe record of the attempt is in {directory.failed}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, before)
    _show_record(record, directory.final)
    return 0


def _report() -> Callable[[Mapping[str, Any]], None]:
    """Progress of a single run: one line that is updated on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda info: None

    def report(info: Mapping[str, Any]) -> None:
        value = "" if info["value"] is None else f"  valid/{info['metric']} {info['value']:.4f}"
        print(f"\r{info['step']}/{info['steps']} steps{value}\x1b[K", end="", file=sys.stderr, flush=True)

    return report


def _show_record(record: Mapping[str, Any], path: Path) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    for name, value in sorted(record["metrics"].items()):
        print(f"{name:20} {'undefined' if value is None else format(value, '.6g')}")
    for name in ("best_epoch", "grad_evals", "grad_evals_per_step", "sam_fraction", "train_seconds", "throughput"):
        value = record[name]
        print(f"{name:20} {'undefined' if value is None else format(value, '.6g')}")
    print(f"{'record':20} {path}")
