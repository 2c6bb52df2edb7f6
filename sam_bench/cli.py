"""The command line. Heavy libraries are imported only when a command needs them."""

import argparse
import codecs
import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sam_bench import __version__
from sam_bench.commands import (
    budgets,
    check,
    completion,
    data,
    doctor,
    figures,
    references,
    report,
    run,
    sharpness,
    speed,
    status,
    sweep,
    table,
    tune,
    verdicts,
    verify,
    wandb,
)
from sam_bench.commands.words import apart
from sam_bench.config import files
from sam_bench.errors import UsageError
from sam_bench.store import places

COMMANDS = (
    run, sweep, tune, budgets, status, table, figures, report, verify, verdicts, wandb, check, sharpness, data, speed,
    references, doctor,
)  # fmt: skip
MENDED_ELSEWHERE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)  # cannot be made there
SPELLED = {"±": "+-", "≠": "!=", "≤": "<=", "≥": ">=", "×": "x", "–": "-", "—": "-", "…": "...", "†": "+", "‡": "++"}
GROUPS = ("dataset", "model", "base", "optimizer", "schedule", "experiment")


def _epilog() -> str:
    try:
        lines = [f"{group + 's:':13}{' '.join(files.yaml_files(group))}" for group in GROUPS]
    except UsageError as error:  # show the help anyway; a command that needs the files raises the error again
        lines = [str(error)]
    return "\n".join(
        [
            *lines,
            "",
            "sam-bench run dataset=bbbp model=grover base=adam optimizer=graphsam seed=0",
            "sam-bench sweep quickstart && sam-bench table quickstart --format markdown",
            "",
            "environment:",
            "  SAM_BENCH_DATA     folder for data sets (default: ~/.cache/sam_bench)",
            "  SAM_BENCH_RESULTS  folder for records (default: results)",
            "  SAM_BENCH_CONFIGS  folders with your own YAML files, separated as in PATH",
            "",
            'shell completion (bash, zsh): eval "$(register-python-argcomplete sam-bench)"',
        ]
    )


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "sam-bench", description="Do sharpness-aware optimizers generalise better, and what do they cost?",
        epilog=_epilog(), formatter_class=raw,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"sam-bench {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(commands)
    completion.offer(parser, commands.choices)
    return parser


def _in_our_folders(error: OSError) -> bool:
    """Whether an error concerns a path in the results folder or the data folder."""
    folders = (places.results_dir(), places.data_dir())
    path = None if error.filename is None else Path(os.fsdecode(error.filename))
    return path is not None and any(path.is_relative_to(f) or f.is_relative_to(path) for f in folders)


def _print_anything() -> None:
    """Replace characters that the terminal lacks (PYTHONIOENCODING=ascii, an old locale) instead of failing."""
    codecs.register_error("sam_bench", _spelled_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="sam_bench")


def _spelled_out(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(SPELLED.get(character, "?") for character in missing), error.end


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "No space is left on the device. Free some, or point SAM_BENCH_RESULTS or SAM_BENCH_DATA elsewhere."
    return "Point SAM_BENCH_RESULTS or SAM_BENCH_DATA to a folder that you may write."


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Overrides may also follow options, which argparse alone would reject."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(apart(argv) if argv and argv[0] in ("check", "status") else argv)
    if wrong := [word for word in rest if not _belongs(arguments, word)]:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    for word in rest:
        (arguments.words if hasattr(arguments, "words") else arguments.overrides).append(word)
    return arguments


def _belongs(arguments: argparse.Namespace, word: str) -> bool:
    """Whether a word that argparse did not place is an override, or one of several experiments."""
    if word.startswith("-"):
        return False
    return hasattr(arguments, "words") or (hasattr(arguments, "overrides") and "=" in word)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if a run failed, 2 for a wrong request, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _print_anything()
    arguments = _parse(argv)
    try:
        return int(arguments.run(arguments))
    except UsageError as error:
        _show(error, f"sam-bench: {error}", arguments)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in MENDED_ELSEWHERE and not (error.errno in NO_FOLDER and _in_our_folders(error)):
            raise
        _show(error, f"sam-bench: {error}. {_advice(error)}", arguments)
        return 2
    except KeyboardInterrupt:
        print("sam-bench: interrupted", file=sys.stderr)
        return 130


def _show(error: Exception, message: str, arguments: argparse.Namespace) -> None:
    if arguments.traceback:
        import traceback

        traceback.print_exception(error)
    print(message, file=sys.stderr)
