"""Arguments that several commands share, and the checks that go with them."""

import argparse
import contextlib
import glob
import importlib.util
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sam_bench.errors import UsageError

# NVIDIA's driver (Jetson, WSL) and AMD's, which torch also calls cuda.
GPU_FILES = ("/dev/nvidia*", "/dev/nvhost*", "/dev/dxg", "/dev/kfd")


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """The arguments `experiment` and `overrides`."""
    parser.add_argument("experiment", help="name of a file of configs/experiment")
    parser.add_argument(
        "overrides", nargs="*",
        help="for instance seed=0,1 train.epochs=2; they replace the grid's values for the same keys; tuned=STUDY "
        "uses the values that `sam-bench tune` found",
    )  # fmt: skip


def add_filter(parser: argparse.ArgumentParser) -> None:
    """The option --filter."""
    parser.add_argument(
        "--filter", action="append", default=[], metavar="KEY=VALUE,...",
        help="only cells with one of these values, for instance optimizer=sam or seed=0,1; may be repeated",
    )  # fmt: skip


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json [FILE]."""
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE",
        help="print JSON instead of text; with a FILE (.json), write JSON there and print text",
    )  # fmt: skip


def put_json(found: object, where: str) -> None:
    """Print JSON (where = "-") or write it to a file; raises UsageError if the file cannot be written."""
    text = json.dumps(found, indent=1)
    if where == "-":
        print(text)
        return
    try:
        Path(where).write_text(text + "\n")
    except OSError as error:
        raise UsageError(f"--json {where} cannot be written: {error.strerror}.") from error


def apart(argv: Sequence[str]) -> list[str]:
    """Put "-" after each --json without a FILE; else argparse would take the next word for the file."""
    words: list[str] = []
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        words += [word, "-"] if word == "--json" and not following.endswith(".json") else [word]
    return words


def add_engine(parser: argparse.ArgumentParser) -> None:
    """The options that say where cells run, how many at once, and what happens to failed ones."""
    parser.add_argument("--jobs", type=int, help="cells at once (default: one per GPU; without a GPU, one per core)")
    parser.add_argument(
        "--per-gpu", type=number_or_auto, default=1, metavar="K",
        help="number of cells at once on each GPU (default: 1); auto: as many as fit, judged by the memory that "
        "similar finished runs needed",
    )  # fmt: skip
    parser.add_argument(
        "--launcher", default="local", metavar="NAME",
        help="where cells run: local (default), slurm, ray, or the name of your own file in configs/launcher; set "
        "its keys as in launcher.partition=gpu",
    )  # fmt: skip
    parser.add_argument("--retries", type=int, default=2, help="how often a killed cell is started again (default: 2)")
    parser.add_argument("--retry-failed", action="store_true", help="also run failed cells again")


def number_or_auto(text: str) -> int | str:
    """A whole number, or `auto`."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number or auto, not {text!r}") from None


def note(text: str) -> None:
    """Print a note on stderr, so that it never becomes part of a result."""
    print(f"note: {text}", file=sys.stderr)


def need_bench() -> None:
    """Raise UsageError if only the optimizers are installed."""
    if importlib.util.find_spec("hydra") is None:
        raise UsageError("this command needs the whole suite: pip install 'sam-bench[bench]'")


def need_gpu(device: str) -> None:
    """Raise UsageError if a GPU is asked for and the machine has no GPU driver; does not import torch."""
    if device.startswith("cuda") and sys.platform == "linux" and not any(glob.glob(name) for name in GPU_FILES):
        raise UsageError(f"device={device}: there is no GPU driver on this machine. Try device=cpu or device=auto.")


def need_folder(folder: Path) -> None:
    """Raise UsageError early if no record can be written to `folder`; leaves nothing behind."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        if there == folder:
            tempfile.TemporaryFile(dir=folder).close()
        else:
            missing = next(path for path in (folder, *folder.parents) if path.parent == there)
            missing.mkdir()
            with contextlib.suppress(OSError):  # another command writes into it already
                missing.rmdir()
    except FileExistsError:  # another command has made it meanwhile
        return
    except OSError as error:
        raise UsageError(
            f"no record can be written to {folder}: {error.strerror}. Point SAM_BENCH_RESULTS to a folder that you may "
            "write."
        ) from error


def cell_overrides(arguments: argparse.Namespace) -> list[str]:
    """The overrides that are not the launcher's."""
    own = launcher_overrides(arguments)
    return [word for word in arguments.overrides if word not in own]


def launcher_overrides(arguments: argparse.Namespace) -> list[str]:
    """The overrides `launcher.key=value`."""
    return [word for word in arguments.overrides if word.startswith("launcher.")]


def same_words(arguments: argparse.Namespace, *, sweep: bool = False) -> str:
    """The words that name the same cells in another command; with `sweep`, also the launcher's."""
    words = [arguments.experiment, *cell_overrides(arguments)]
    words += [word for text in arguments.filter for word in ("--filter", text)]
    return shlex.join([*words, *(launcher_words(arguments) if sweep else [])])


def launcher_words(arguments: argparse.Namespace) -> list[str]:
    """The words that choose a launcher; none for this machine."""
    if arguments.launcher == "local":
        return []
    return ["--launcher", arguments.launcher, *launcher_overrides(arguments)]
