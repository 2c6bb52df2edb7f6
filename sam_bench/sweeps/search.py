"""Which points a tuning study tries: the spaces of configs/search, and Optuna's samplers over them.

A space has the options that all methods on a base share (`configs/search/base/<base>.yaml`), then the method's own
(`configs/search/<optimizer>.yaml`). The quasi-random sampler is a scrambled Sobol sequence (Owen 1998) with a fixed
number of dimensions, of which an arm uses the first ones. So all arms on a base try the same points in the options that
they share, and the first k trials of a study are those of a study with k trials.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from sam_bench.config import files
from sam_bench.errors import UsageError

Space = dict[str, dict[str, Any]]
SAMPLERS = {"qmc": "quasi-random (scrambled Sobol)", "tpe": "TPE"}
SEED = 0  # seed of the samplers: the same points in every study
DIMENSIONS = 24  # dimensions of the Sobol sequence; another number gives another sequence
RULES = {frozenset(("low", "high")), frozenset(("choices",))}
EXTRAS = {"log", "limit", "source"}


def space_of(base: str, optimizer: str) -> Space:
    """The space of an arm, {"base.lr": {"low":, "high":, "log":, "source":}, ...}, shared options first.

    Raises UsageError if a file is missing or has an entry that is not a range.
    """
    shared = {f"base.{key}": rule for key, rule in _read(f"base/{base}").items()}
    own = {f"optimizer.{key}": rule for key, rule in _read(optimizer).items()}
    if len(shared) + len(own) > DIMENSIONS:
        raise UsageError(f"{optimizer} on {base} has more than {DIMENSIONS} options to tune: leave some out.")
    return shared | own


def _read(name: str) -> Mapping[str, dict[str, Any]]:
    paths = [folder / "search" / f"{name}.yaml" for folder in (*files.user_dirs(), files.config_dir())]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UsageError(
            f"there is no search space for {name}: write search/{name}.yaml in a folder of SAM_BENCH_CONFIGS, one line "
            "an option, for instance `rho: {low: 1.0e-4, high: 0.1, log: true, source: ours}`."
        )
    found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for key, rule in found.items():
        _check(path, key, rule)
    return dict(found)


def _check(path: Path, key: str, rule: Any) -> None:
    if not isinstance(rule, dict) or frozenset(rule.keys() - EXTRAS) not in RULES or not rule.get("source"):
        raise UsageError(
            f"{path}: {key} needs low and high, or choices, and a source; log: true may be added, and limit: low, high "
            "or both for an end that has no beyond."
        )
    try:
        _distribution(rule)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: {key} is no range: {error}") from None


def _distribution(rule: Mapping[str, Any]) -> BaseDistribution:
    if "choices" in rule:
        return CategoricalDistribution(rule["choices"])
    return FloatDistribution(rule["low"], rule["high"], log=rule.get("log", False))


class _Sobol(optuna.samplers.QMCSampler):
    """Optuna's Sobol sampler over a space that is known from the start; else its first point would be random."""

    def __init__(self, space: dict[str, BaseDistribution]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(qmc_type="sobol", scramble=True, seed=SEED)
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space


class Search:
    """An Optuna study of one arm, in memory; with the same results it proposes the same points again.

    `enough` is the number of trials after which `prune` starts to stop trials that are worse than the median.
    """

    def __init__(self, space: Space, sampler: str, *, prune: bool, enough: int):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self._all = {key: _distribution(rule) for key, rule in space.items()}
        if sampler == "qmc":
            unused = {f"unused {n}": FloatDistribution(0, 1) for n in range(len(space), DIMENSIONS)}
            self._all |= unused
        chosen = _Sobol(self._all) if sampler == "qmc" else optuna.samplers.TPESampler(seed=SEED)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=enough) if prune else optuna.pruners.NopPruner()
        self._study = optuna.create_study(sampler=chosen, pruner=pruner)
        self._trials: list[optuna.Trial] = []

    def ask(self) -> dict[str, Any]:
        """The values of the next trial, numbers with four significant digits."""
        trial = self._study.ask(self._all)
        self._trials.append(trial)
        return {key: _short(trial.params[key]) for key in self.space}

    def hopeless(self, number: int, step: int, value: float) -> bool:
        """Report a trial's mean after this many seeds (smaller is better); returns whether to prune the trial."""
        self._trials[number].report(value, step)
        return self._trials[number].should_prune()

    def tell(self, number: int, value: float | None) -> None:
        """Report the result of a trial: smaller is better, infinite if it diverged, None if it was pruned."""
        if value is None:
            self._study.tell(self._trials[number], state=TrialState.PRUNED)
        else:
            self._study.tell(self._trials[number], value)


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def points(space: Space, trials: int) -> Sequence[dict[str, Any]]:
    """The first points of the quasi-random sampler."""
    search = Search(space, "qmc", prune=False, enough=trials)
    return [search.ask() for _ in range(trials)]
