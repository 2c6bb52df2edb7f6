"""`sam-bench tune`."""

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sam_bench.commands import cells, sweep
from sam_bench.commands.words import add_engine, add_experiment, cell_overrides, launcher_words, need_bench
from sam_bench.errors import UsageError
from sam_bench.store import places

if TYPE_CHECKING:
    from rich.console import Console

    from sam_bench.api import RunSpec
    from sam_bench.store.studies import Tuning

SEEDS = "1000,1001"


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    tune = commands.add_parser(
        "tune", help="tune every method of an experiment with the same number of trials",
        description="Tunes every method of an experiment with the same number of trials and the same seeds. A trial is "
        "one point of the method's search space (configs/search). Its runs never read the test split. The trials of "
        "each method go to results/tuned/STUDY. After an interruption, run the same command again: finished runs are "
        "kept. Use the winners with: sam-bench sweep EXPERIMENT tuned=STUDY.",
    )  # fmt: skip
    add_experiment(tune)
    tune.add_argument("--trials", type=int, required=True, metavar="N", help="number of trials for each method")
    tune.add_argument("--study", metavar="NAME", help="name of the study (default: the name of the experiment)")
    tune.add_argument(
        "--seeds", default=SEEDS, metavar="S,...", help=f"seeds for tuning, not for final runs (default: {SEEDS})"
    )
    tune.add_argument(
        "--sampler", default="qmc", choices=("qmc", "tpe"),
        help="qmc (default): quasi-random, the same points of lr and weight decay for every method; tpe: Bayesian",
    )  # fmt: skip
    tune.add_argument(
        "--prune", action="store_true", help="stop a trial that is worse than the median after its first seeds"
    )
    add_engine(tune)
    tune.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run a study, then print its winners."""
    need_bench()
    from rich.console import Console

    from sam_bench.results.tuning import study_text
    from sam_bench.store import studies
    from sam_bench.sweeps import tune

    sweep.check(arguments)
    settings, results, console = _settings(arguments), places.results_dir(), Console(stderr=True)
    again = shlex.join(["sam-bench", "tune", *_words(arguments)])
    try:
        found = tune.run(settings, results, _maker(arguments, console))
    except tune.Unfinished as error:
        console.print(f"the study is not finished: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        console.print(f"then: {again} --retry-failed", highlight=False, markup=False, soft_wrap=True)
        return 1
    except _Stopped:
        console.print(f"stopped; `{again}` resumes", highlight=False, markup=False, soft_wrap=True)
        return 130
    written = [studies.write(tuning, results / "tuned" / settings.study) for tuning in found]
    print(study_text(found))
    _warn(found, console)
    name = shlex.join([arguments.experiment, *cell_overrides(arguments), f"tuned={settings.study}"])
    print(f"\nstudy: {written[0].parent} ({len(written)} methods)\nnext:\n  sam-bench sweep {name}")
    return 0


class _Stopped(Exception):
    """The user stopped the study."""


def _settings(arguments: argparse.Namespace):
    from sam_bench.sweeps.tune import Settings

    if arguments.trials < 1:
        raise UsageError("--trials must be at least 1.")
    words = arguments.seeds.split(",")
    if not all(word.isdigit() for word in words) or len(set(words)) < len(words):
        raise UsageError(f"--seeds {arguments.seeds}: write different whole numbers, as in {SEEDS}.")
    study = arguments.study or arguments.experiment
    if not re.fullmatch(r"[A-Za-z0-9_.+-]*[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", study) or study == "null":
        raise UsageError(f"--study {study!r}: a name may only contain letters, digits and _.+-")
    return Settings(
        study, arguments.experiment, tuple(cell_overrides(arguments)), arguments.trials,
        tuple(int(word) for word in words), arguments.sampler, arguments.prune,
    )  # fmt: skip


def _words(arguments: argparse.Namespace) -> list[str]:
    """The words that name this study in the same command."""
    words = [arguments.experiment, *cell_overrides(arguments), "--trials", str(arguments.trials)]
    words += ["--study", arguments.study] if arguments.study else []
    words += ["--seeds", arguments.seeds] if arguments.seeds != SEEDS else []
    words += ["--sampler", arguments.sampler] if arguments.sampler != "qmc" else []
    return [*words, *(["--prune"] if arguments.prune else []), *launcher_words(arguments)]


def _maker(arguments: argparse.Namespace, console: "Console") -> Callable[[Sequence["RunSpec"]], None]:
    """A function that runs the cells of a study without a record; it raises _Stopped after Ctrl-C."""

    def make(planned: Sequence["RunSpec"]) -> None:
        worker = cells.make(arguments, planned, console)
        if worker is not None and worker.interrupts:
            raise _Stopped

    return make


def _warn(found: Sequence["Tuning"], console: "Console") -> None:
    """Warn about winners at the end of their range."""
    for tuning in found:
        for key in tuning.edges:
            assert tuning.winner is not None
            rule = tuning.space[key]
            console.print(
                f"warning: {tuning.labels['optimizer']}: the best {key}, {tuning.winner.values[key]:g}, lies at the "
                f"end of its range ({rule['low']:g} to {rule['high']:g}): widen it in configs/search",
                style="yellow", highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
