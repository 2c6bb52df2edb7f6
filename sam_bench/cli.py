"""The commands. Nothing heavy is imported before a command needs it."""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sam_bench import __version__, paths
from sam_bench.errors import UsageError

GROUPS = ("dataset", "model", "base", "optimizer", "schedule", "experiment")


def _names(group: str) -> list[str]:
    return sorted({path.stem for folder in paths.config_dirs() for path in (folder / group).glob("*.yaml")})


def _epilog() -> str:
    lines = [f"{group + 's:':13}{' '.join(_names(group))}" for group in GROUPS]
    return "\n".join(
        [
            *lines,
            "",
            "sam-bench run dataset=bbbp model=grover base=adam optimizer=graphsam seed=0",
            "sam-bench sweep quickstart && sam-bench table quickstart --format markdown",
            "",
            "environment:",
            "  SAM_BENCH_DATA     folder of the data sets (default: a cache folder)",
            "  SAM_BENCH_RESULTS  folder of the records (default: results)",
            "  SAM_BENCH_CONFIGS  folders with your own YAML files, separated as in PATH",
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
    registers = (_register_run, _register_sweep, _register_results, _register_sharpness)
    for register in (*registers, _register_data, _register_speed, _register_references):
        register(commands)
    return parser


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", help="a file of configs/experiment")
    parser.add_argument(
        "overrides", nargs="*", help="for instance seed=0,1 train.epochs=2; an axis of the grid is replaced"
    )


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--filter", action="append", default=[], metavar="KEY=VALUE,...",
        help="only cells with one of these values, for instance optimizer=sam or seed=0,1; may be given several times",
    )  # fmt: skip


def _register_run(commands) -> None:
    run = commands.add_parser(
        "run", help="one run; a Hydra application", add_help=False, prefix_chars="\0",  # -m and the like are Hydra's
        description="key=value overrides, -m for a Hydra multirun, --cfg job to see the configuration",
    )  # fmt: skip
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    run.set_defaults(call="run.run")


def _register_sweep(commands) -> None:
    sweep = commands.add_parser(
        "sweep", help="a whole experiment: skips what is finished, resumes, goes on after a failure",
        description="Makes the unfinished cells of an experiment, several at once, then prints its table. Give it "
        "again after any interruption, or twice at once, also on two machines that share the results folder: each "
        "cell is made once. Ctrl-C lets the running cells write a checkpoint and stop; a second Ctrl-C stops them now.",
    )  # fmt: skip
    _add_experiment(sweep)
    _add_filter(sweep)
    sweep.add_argument("--jobs", type=int, help="cells at once (default: one per GPU, else one per core)")
    sweep.add_argument("--per-gpu", type=int, default=1, metavar="K", help="cells at once on each GPU (default: 1)")
    sweep.add_argument(
        "--launcher", default="local", metavar="NAME",
        help="where cells run: local (default), slurm, ray, or a file of your own configs/launcher; its keys are "
        "given as launcher.partition=gpu",
    )  # fmt: skip
    sweep.add_argument("--retries", type=int, default=2, help="how often a killed cell is taken up again (default: 2)")
    sweep.add_argument("--retry-failed", action="store_true", help="also run the cells again that failed")
    sweep.add_argument("--dry-run", action="store_true", help="only list the cells: state, what would be run, how long")
    sweep.set_defaults(call="sweep.sweep")
    status = commands.add_parser(
        "status", help="planned, finished, running, stale and failed cells of an experiment",
        description="Lists each cell: finished; running, with its last heartbeat; stale (its process is gone, its "
        "checkpoint is kept); failed, with the first line of the error; planned. Then says what to do.",
    )  # fmt: skip
    _add_experiment(status)
    _add_filter(status)
    status.add_argument("--json", action="store_true", help="a list of objects instead of text")
    status.set_defaults(call="status.status")


def _register_results(commands) -> None:
    table = commands.add_parser("table", help="the results table of an experiment")
    _add_experiment(table)
    table.add_argument("--format", default="terminal", choices=("terminal", "markdown", "csv", "latex", "html"))
    table.add_argument("--out", type=Path, help="write it to this file")
    table.set_defaults(call="results.table")
    figures = commands.add_parser("figures", help="the figures of an experiment")
    _add_experiment(figures)
    figures.add_argument("--out", type=Path, default=Path("paper_figures"), help="folder (default: paper_figures)")
    figures.set_defaults(call="results.figures")
    report = commands.add_parser("report", help="one self-contained page about experiments")
    report.add_argument("experiments", nargs="+", metavar="experiment", help="files of configs/experiment")
    report.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    report.set_defaults(call="results.report")
    verify = commands.add_parser("verify", help="whether the records are whole and the arms had equal chances")
    _add_experiment(verify)
    verify.set_defaults(call="results.verify")
    wandb = commands.add_parser("wandb", help="send finished records to Weights & Biases, again if need be")
    wandb.add_argument("action", choices=("sync",))
    wandb.add_argument("experiments", nargs="+", metavar="experiment", help="files of configs/experiment")
    wandb.add_argument("--project", default="sam_bench")
    wandb.add_argument("--entity", help="team or user")
    wandb.add_argument("--mode", default="online", choices=("online", "offline"))
    wandb.add_argument("--no-files", dest="files", action="store_false", help="the runs alone, no tables and figures")
    wandb.set_defaults(call="results.wandb")


def _register_sharpness(commands) -> None:
    sharpness = commands.add_parser(
        "sharpness",
        help="measure finished runs: Hessian, loss rises, gap; landscape; successive gradients",
        description="Measures every finished run at its best weights and adds a record beside it; what is measured "
        "is kept. Without a flag: largest Hessian eigenvalue, trace, m-sharpness, loss rise in a ball, gap.",
    )
    _add_experiment(sharpness)
    add = sharpness.add_argument
    kinds = sharpness.add_mutually_exclusive_group()
    for kind, what in (("landscape", "the loss in a plane"), ("gradients", "successive gradients: trains again")):
        kinds.add_argument(
            f"--{kind}", dest="kind", action="store_const", const=kind, default="sharpness", help=f"instead, {what}"
        )
    add("--samples", type=int, default=512, help="training samples that the loss is taken over (default: 512)")
    add("--m", type=int, default=0, help="samples per batch of m-sharpness (default: the run's batch size)")
    add("--rho", type=float, default=0.05, help="radius of all perturbations (default: 0.05)")
    add("--ascent-steps", type=int, default=1, help="steps up in m-sharpness; 1 is SAM's own (default)")
    add("--probes", type=int, default=16, help="random vectors for the trace (default: 16)")
    add("--directions", type=int, default=16, help="pairs of points in the ball (default: 16)")
    add("--tolerance", type=float, default=1e-3, help="relative residual of the eigenvalue (default: 0.001)")
    add("--products", type=int, default=100, help="most Hessian products for the eigenvalue (default: 100)")
    add("--points", type=int, default=21, help="of the landscape, along each axis (default: 21)")
    add("--span", type=float, default=1.0, help="of the landscape, in filter lengths either way (default: 1)")
    add("--every", type=int, default=7, help="with --gradients: two steps in so many (default: 7)")
    add("--seed", type=int, default=0, dest="draws", help="of the subset and the random vectors (default: 0)")
    sharpness.set_defaults(call="sharpness.sharpness")


def _register_data(commands) -> None:
    data = commands.add_parser("data", help="list, fetch or verify the data sets")
    data.add_argument("action", choices=("list", "fetch", "verify"))
    data.add_argument("names", nargs="*", help="data sets (default: all)")
    data.set_defaults(call="tools.data")


def _register_speed(commands) -> None:
    speed = commands.add_parser("speed", help="measure the cost of optimizers, molecules or images", add_help=False)
    speed.add_argument("what", choices=("optimizers", "molecules", "images"))
    speed.add_argument("arguments", nargs=argparse.REMAINDER)
    speed.set_defaults(call="tools.speed")


def _register_references(commands) -> None:
    references = commands.add_parser(
        "references", help="random forest and ridge on Morgan fingerprints, on the splits of an experiment",
        description="Fits both on the molecules, splits and metric of each cell and prints them beside the finished "
        "runs. Ridge's penalty is chosen by the valid split; nothing is stored.",
    )  # fmt: skip
    _add_experiment(references)
    references.add_argument("--jobs", type=int, help="cores of the random forest (default: 1)")
    references.set_defaults(call="tools.references")


def _dispatch(arguments: argparse.Namespace) -> int:
    module, function = arguments.call.split(".")
    return getattr(importlib.import_module(f"sam_bench.commands.{module}"), function)(arguments)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "No space is left on the device. Free some, or point SAM_BENCH_RESULTS or SAM_BENCH_DATA elsewhere."
    return "Point SAM_BENCH_RESULTS or SAM_BENCH_DATA to a folder that you may write."


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Overrides may also stand after options, which argparse does not see by itself."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not (hasattr(arguments, "overrides") and all("=" in word and word[0] != "-" for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if a run failed, 2 for a wrong request, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parse(argv)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own classes, named by `_target_`, also with the installed command
    try:
        return _dispatch(arguments)
    except UsageError as error:
        _show(error, f"sam-bench: {error}", arguments)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
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


if __name__ == "__main__":
    sys.exit(main())
