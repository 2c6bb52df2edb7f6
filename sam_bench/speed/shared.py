"""The options that `sam-bench speed molecules`, `images` and `optimizers` share."""

import argparse
import time
from collections.abc import Callable, Sequence

from sam_bench.errors import UsageError

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def add_shared(parser: argparse.ArgumentParser, *, batch_size: int, steps: int, repeats: int, example: str) -> None:
    """Add the options; the numbers are the defaults, `example` shows --set."""
    add = parser.add_argument
    add("--batch-size", type=int, default=batch_size)
    add("--steps", type=int, default=steps, help="steps per measurement; also the length of an epoch")
    add("--repeats", type=int, default=repeats, help="number of measurements per arm (n)")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides", help=f"keys of the YAMLs: {example}")
    add("--device", default="auto")
    add("--threads", type=int, help="threads of torch on the CPU (default: torch's)")
    add(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: measure CPU seconds of one thread, for a machine with other work",
    )


def check_overrides(overrides: Sequence[str], may: Sequence[str]) -> None:
    """Raise UsageError for a `--set` that has no effect here."""
    for word in overrides:
        if word.partition("=")[0].partition(".")[0] not in may or "=" not in word:
            raise UsageError(f"--set {word} has no effect here; use keys of {', '.join(may)}, as KEY=VALUE.")
