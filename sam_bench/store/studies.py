"""Tuning studies: the search space, the result of each trial, and the winner; one small file per arm.

A study is a folder, `$SAM_BENCH_RESULTS/tuned/<study>`; the published ones come with the package. The file does not
store the winner. It is chosen here from the trials, so that it always agrees with them.
"""

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from sam_bench.errors import UsageError, did_you_mean
from sam_bench.store.disk import advice, atomic_write
from sam_bench.store.identity import important, spelled
from sam_bench.store.places import results_dir

NAMES = ("dataset", "model", "base", "optimizer")
EDGE = 0.05  # a winner within this share of a range from an end shows that the range is too narrow
DIGITS = 12  # hexadecimal digits of a hash


class NoStudy(UsageError):
    """A study, or the arm of one, that is not at hand."""


@dataclass(frozen=True)
class Trial:
    """One point of the space: its values, and the valid metric for each tuning seed (None: the run diverged).

    `scores` has fewer seeds than the study if the trial was pruned.
    """

    values: Mapping[str, Any]
    scores: Mapping[int, float | None]
    grad_evals: int

    @property
    def value(self) -> float:
        """Mean valid metric over the seeds; NaN if a run diverged."""
        known = [math.nan if score is None else score for score in self.scores.values()]
        return sum(known) / len(known)


@dataclass(frozen=True)
class Tuning:
    """The trials of one arm. `space` has low, high, log or choices, and the source, of each key such as `base.lr`."""

    study: str
    experiment: str
    overrides: Sequence[str]
    labels: Mapping[str, str]
    recipe: str  # hash of everything that was not tuned
    metric: str
    higher_is_better: bool
    sampler: str
    pruned: bool
    seeds: Sequence[int]
    space: Mapping[str, Mapping[str, Any]]
    trials: Sequence[Trial]

    @property
    def complete(self) -> list[Trial]:
        """The trials that ran with every seed and did not diverge: only these can win."""
        return [t for t in self.trials if len(t.scores) == len(self.seeds) and not math.isnan(t.value)]

    @property
    def winner(self) -> Trial | None:
        """The trial with the best mean valid metric, among equals the first; None if all diverged."""
        sign = -1.0 if self.higher_is_better else 1.0
        return min(self.complete, key=lambda trial: sign * trial.value, default=None)

    @property
    def edges(self) -> list[str]:
        """Keys whose winning value is at an end of its range that could be moved."""
        winner = self.winner
        return [key for key, rule in self.space.items() if winner and _at_edge(winner.values[key], rule)]

    @property
    def digest(self) -> str:
        """Hash of everything in the file."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    @property
    def mark(self) -> dict[str, Any]:
        """What the configuration of a run with the winner's values says about their origin."""
        return {"study": self.study, "trials": len(self.trials), "hash": self.digest, "keys": list(self.space)}


def _at_edge(value: Any, rule: Mapping[str, Any]) -> bool:
    if "low" not in rule:
        return False  # choices have no range to widen
    low, high = float(rule["low"]), float(rule["high"])
    place = math.log(value / low) / math.log(high / low) if rule.get("log") else (value - low) / (high - low)
    limit = rule.get("limit")
    return (place < EDGE and limit not in ("low", "both")) or (place > 1 - EDGE and limit not in ("high", "both"))


def recipe(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Hash of a configuration without its seeds and without `keys`: what a trial and a final run have in common."""
    kept = {k: v for k, v in important(config).items() if k not in ("seed", "split_seed", "test", "tuned")}
    for key in keys:
        group, _, option = key.partition(".")
        kept[group] = {name: value for name, value in kept[group].items() if name != option}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:DIGITS]


# -- files ---------------------------------------------------------------------------------------------------------


def write(tuning: Tuning, folder: Path) -> Path:
    """Write an arm's file into the folder of its study and return its path; raises UsageError if it cannot."""
    head = {**asdict(tuning), "winner": None if tuning.winner is None else dict(tuning.winner.values)}
    trials = head.pop("trials")
    text = yaml.safe_dump(
        {**head, "edges": tuning.edges, "hash": tuning.digest, "trials": trials},
        sort_keys=False, default_flow_style=None, width=10_000,
    )  # fmt: skip
    path = folder / f"{'-'.join(tuning.labels[key] for key in NAMES)}-{tuning.recipe}.yaml"
    with advice(path):
        folder.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text.encode())
    return path


def read(path: Path) -> Tuning:
    """Read an arm's file; raises UsageError if it was changed after it was written, or is not such a file."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        stated = found.pop("hash")
        trials = [Trial(**trial) for trial in found.pop("trials")]
        tuning = Tuning(**{k: v for k, v in found.items() if k not in ("winner", "edges")}, trials=trials)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not the file of a tuning study: {error}.") from None
    winner = None if tuning.winner is None else tuning.winner.values
    if stated != tuning.digest or found.get("winner") != winner:
        raise UsageError(f"{path} was changed after it was written: run its `sam-bench tune` again, or restore it.")
    return tuning


def folders() -> list[Path]:
    """The folders of studies: the results folder, then those of the package or its source tree."""
    package = Path(__file__).parent.parent
    published = package / "tuned"
    if not published.is_dir():
        published = package.parent / "results" / "published" / "tuned"
    return [results_dir() / "tuned", published]


def study_files(study: str) -> list[Path]:
    """The files of a study; raises UsageError if there is no study of that name."""
    for folder in folders():
        if files := sorted((folder / study).glob("*.yaml")):
            return files
    known = [path.name for folder in folders() if folder.is_dir() for path in folder.iterdir() if path.is_dir()]
    hint = f" {did_you_mean(study, known)}" if known else ""
    searched = " or ".join(str(folder) for folder in folders())
    raise NoStudy(f"there is no tuning study {study!r} in {searched}.{hint} `sam-bench tune` makes one.")


@functools.lru_cache(maxsize=1024)
def _read_at(path: Path, _modified: int) -> Tuning:
    return read(path)


def load(study: str) -> list[Tuning]:
    """The arms of a study, in the order of their files' names. Raises UsageError."""
    return [_read_at(path, path.stat().st_mtime_ns) for path in study_files(study)]


def has(study: str, labels: Mapping[str, Any]) -> bool:
    """Whether a study has an arm with these labels; raises UsageError where there is no such study."""
    return any(_same_labels(arm, labels) for arm in load(study))


def _same_labels(arm: Tuning, labels: Mapping[str, Any]) -> bool:
    return all(arm.labels[key] == str(labels[key]) for key in NAMES)


def find(study: str, labels: Mapping[str, Any], config: Mapping[str, Any]) -> Tuning:
    """The arm of a study with these labels, and with this recipe if several arms share the labels. Raises UsageError.

    A single arm with another recipe (more epochs, say) is accepted; `sam-bench verify` warns about it.
    """
    alike = [arm for arm in load(study) if _same_labels(arm, labels)]
    exact = [arm for arm in alike if arm.recipe == recipe(config, list(arm.space))]
    chosen = exact or (alike if len(alike) == 1 else [])
    if not chosen:
        name = " / ".join(str(labels[key]) for key in NAMES)
        reason = "several arms, of which none was tuned with the same other options" if alike else "no arm"
        raise NoStudy(f"the study {study} has {reason} for {name}. Leave it out, or tune it, too: sam-bench tune")
    if chosen[0].winner is None:
        name = chosen[0].labels["optimizer"]
        raise UsageError(f"in the study {study} every trial of {name} diverged: widen its space.")
    return chosen[0]


def words(tuning: Tuning) -> Iterator[str]:
    """The overrides that give a run the winner's values and say where they come from."""
    winner = tuning.winner
    assert winner is not None
    yield from (f"{key}={word(value)}" for key, value in winner.values.items())
    yield f"+tuned={{{','.join(f'{key}:{word(value)}' for key, value in tuning.mark.items())}}}"


def word(value: Any) -> str:
    """A value as Hydra reads it back."""
    if isinstance(value, list):
        return f"[{','.join(map(word, value))}]"
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'"
    if value is None or isinstance(value, bool):
        return spelled(value)
    return repr(value)
