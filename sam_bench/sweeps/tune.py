"""A tuning study: every arm gets the same number of trials with the same seeds, and each trial is an ordinary run.

A `Sweep` on any engine runs the cells of a study, so leases, retries, resuming and skipping are those of a sweep. A
trial that another study or an earlier attempt has made is not made again. A study stores nothing else. If it is killed
and started again, its samplers propose the same points, it finds their results among the records, and it continues.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_bench.api import RunSpec
from sam_bench.config.compose import compose_each, plan
from sam_bench.errors import UsageError
from sam_bench.store.folder import RunDirectory
from sam_bench.store.record import read_record
from sam_bench.store.studies import NAMES, Trial, Tuning, recipe, word
from sam_bench.sweeps.search import SAMPLERS, Search, Space, space_of

ROUND = 4  # trials of an arm at once, if later ones depend on earlier ones; fixed, because it changes the result
DIVERGED = "NonFiniteLoss"  # the only failure that counts as a result of the trial


class Unfinished(Exception):
    """Some trials could not be run; the message says why."""


@dataclass(frozen=True)
class Settings:
    """The settings of a study, besides its experiment."""

    study: str
    experiment: str
    overrides: tuple[str, ...]
    trials: int
    seeds: tuple[int, ...]
    sampler: str = "qmc"
    prune: bool = False

    @property
    def rounds(self) -> list[range]:
        """The numbers of the trials that are proposed together, round by round."""
        size = self.trials if self.sampler == "qmc" and not self.prune else ROUND
        return [range(first, min(first + size, self.trials)) for first in range(0, self.trials, size)]


@dataclass
class Arm:
    """An arm and its state in a study."""

    cell: RunSpec  # a cell of the experiment; it fixes everything but the seed and the tuned values
    space: Space
    search: Search
    values: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[int, Mapping[str, Any]]] = field(default_factory=list)

    def words(self, trial: int, seed: int) -> list[str]:
        """The overrides of one trial with one seed."""
        kept = [text for text in self.cell.overrides if key_of(text) != "seed"]
        own = [f"{key}={word(value)}" for key, value in self.values[trial].items()]
        return [*kept, f"seed={seed}", *own, "test=false"]


def key_of(text: str) -> str:
    """`base.lr` of the override `base.lr=0.1`."""
    return text.partition("=")[0].lstrip("+~")


def arms(settings: Settings) -> list[Arm]:
    """The arms of the experiment, each with its space.

    Raises UsageError if a tuning seed is one of the final runs', or if an option that would be tuned is in the grid.
    """
    found: dict[tuple[str, ...], Arm] = {}
    for cell in plan(settings.experiment, [*settings.overrides, "tuned=null"]):
        if cell.labels["seed"] in settings.seeds:
            raise UsageError(
                f"seed {cell.labels['seed']} is one of the final runs' and cannot be a tuning seed: choose others, as "
                f"in --seeds {max(settings.seeds) + 1000},{max(settings.seeds) + 1001}."
            )
        space = space_of(cell.labels["base"], cell.labels["optimizer"])
        if taken := sorted({key_of(text) for text in cell.overrides} & space.keys()):
            raise UsageError(
                f"{taken[0]} is given, and would be tuned: leave it out of the overrides and the grid, or put a search "
                "space without it into a folder of SAM_BENCH_CONFIGS."
            )
        name = (*(str(cell.labels[key]) for key in NAMES), recipe(cell.config, list(space)))
        if name not in found:
            search = Search(space, settings.sampler, prune=settings.prune, enough=ROUND)
            found[name] = Arm(cell, space, search)
    return list(found.values())


def run(settings: Settings, results: Path, make: Callable[[Sequence[RunSpec]], None]) -> list[Tuning]:
    """Run a study; returns its arms with all trials. `make` makes the cells that have no record yet, and may raise.

    Raises UsageError for a wrong request, Unfinished if a trial could not be made.
    """
    found = arms(settings)
    for numbers in settings.rounds:
        for arm in found:
            arm.values += [arm.search.ask() for _ in numbers]
            arm.records += [{} for _ in numbers]
        alive = {(place, number) for place in range(len(found)) for number in numbers}
        portions = [[seed] for seed in settings.seeds] if settings.prune else [list(settings.seeds)]
        for portion in portions:
            _make(found, sorted(alive, key=lambda pair: (pair[1], pair[0])), portion, results, make)
            if settings.prune and portion != portions[-1]:
                step = portions.index(portion)
                alive = {(place, n) for place, n in alive if not _hopeless(found[place], n, step)}
        for place, arm in enumerate(found):
            for number in numbers:
                arm.search.tell(number, _loss(arm, number) if (place, number) in alive else None)
    return [_tuning(settings, arm) for arm in found]


def _make(found: Sequence[Arm], pairs: Sequence[tuple[int, int]], seeds: Sequence[int], results: Path,
          make: Callable[[Sequence[RunSpec]], None]) -> None:  # fmt: skip
    """Make these trials with these seeds, trial by trial over all arms, and store their records."""
    wanted = [(found[place], number, seed) for place, number in pairs for seed in seeds]
    cells = compose_each([arm.words(number, seed) for arm, number, seed in wanted])
    make(list({cell.run_id: cell for cell in cells}.values()))
    for (arm, number, seed), cell in zip(wanted, cells, strict=True):
        arm.records[number][seed] = _record(cell, results)


def _record(cell: RunSpec, results: Path) -> Mapping[str, Any]:
    """The record of a trial's run; raises Unfinished if there is none, or if the run failed without diverging."""
    directory = RunDirectory(results, cell.run_id)
    if directory.finished:
        return read_record(directory.final)
    if not directory.failed.exists():
        raise Unfinished(f"{cell.run_id} has no record")
    record = read_record(directory.failed)
    error: Mapping[str, Any] = record["error"] if record["status"] == "failed" else {}
    if error.get("type") != DIVERGED:
        raise Unfinished(f"{cell.run_id} failed: {error.get('type')}: {error.get('message')}")
    return record


def _score(record: Mapping[str, Any]) -> float | None:
    """The valid metric of the best epoch; None if the run diverged or the metric is not defined."""
    found = record["metrics"].get(f"valid/{record['metric']['name']}") if record["status"] == "finished" else None
    return None if found is None else float(found)


def _trial(arm: Arm, number: int) -> Trial:
    records = arm.records[number]
    scores = {seed: _score(record) for seed, record in records.items()}
    return Trial(arm.values[number], scores, sum(record["grad_evals"] for record in records.values()))


def _metric(arm: Arm) -> Mapping[str, Any]:
    record: Mapping[str, Any] = next(iter(arm.records[0].values()))
    metric: Mapping[str, Any] = record["metric"]
    return metric


def _loss(arm: Arm, number: int) -> float:
    """The mean valid metric of a trial so far, with its sign changed if larger is better; infinite if it diverged."""
    value = _trial(arm, number).value
    if value != value:
        return float("inf")
    return -value if _metric(arm)["higher_is_better"] else value


def _hopeless(arm: Arm, number: int, step: int) -> bool:
    return arm.search.hopeless(number, step, _loss(arm, number))


def _tuning(settings: Settings, arm: Arm) -> Tuning:
    return Tuning(
        study=settings.study,
        experiment=settings.experiment,
        overrides=list(settings.overrides),
        labels={key: str(arm.cell.labels[key]) for key in NAMES},
        recipe=recipe(arm.cell.config, list(arm.space)),
        metric=str(_metric(arm)["name"]),
        higher_is_better=bool(_metric(arm)["higher_is_better"]),
        sampler=SAMPLERS[settings.sampler],
        pruned=settings.prune,
        seeds=list(settings.seeds),
        space=json.loads(json.dumps(arm.space)),  # copies, because YAML would write shared objects as references
        trials=[_trial(arm, number) for number in range(settings.trials)],
    )
