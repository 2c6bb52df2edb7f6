"""Records put together: the runs that differ by seed alone are an arm, the arms of one table a block."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sam_bench.api import Failed, Finished, Labels, Metric, Record
from sam_bench.results.published import Published, published
from sam_bench.results.stats import Comparison, Summary, compare, differences, summary
from sam_bench.store.identity import LATER, important, spelled
from sam_bench.store.index import score

BASE_ARM = "erm"
COSTS = ("throughput", "grad_evals", "grad_evals_per_step", "sam_fraction", "train_seconds", "peak_memory_bytes")


@dataclass(eq=False)
class Arm:
    """The runs of one configuration under several seeds; `variant` names what sets it apart from its namesakes."""

    labels: Labels
    runs: list[Finished]
    failed: list[Failed]
    variant: str = ""
    versus: Comparison | None = None
    base: "Arm | None" = None
    published: list[Published] = field(default_factory=list)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)  # what is worth computing once

    def config_without(self, *apart: str) -> str:
        """The configuration of the runs without their seeds and these groups, as text."""
        if apart not in self.memo:
            every: list[Record] = [*self.runs, *self.failed]
            self.memo[apart] = arm_config(every[0], without=apart)
        return str(self.memo[apart])

    @property
    def options(self) -> dict[str, Any]:
        """The configuration of the runs, {"train.epochs": 8, ...}, without their seeds."""
        if "options" not in self.memo:
            self.memo["options"] = flatten(json.loads(self.config_without()))
        options: dict[str, Any] = self.memo["options"]
        return options

    @property
    def tuned(self) -> Mapping | None:
        """Study, trials, hash and keys of the tuning that gave its values; None for an arm that nobody tuned."""
        return cast("Mapping | None", (self.runs or self.failed)[0]["config"].get("tuned"))

    @property
    def origin(self) -> str:
        """Where the options come from: `tuned (16 trials)` or `defaults`."""
        return f"tuned ({self.tuned['trials']} trials)" if self.tuned else "defaults"

    @property
    def name(self) -> str:
        """The optimizer's label, with the variant."""
        return f"{self.labels['optimizer']} ({self.variant})" if self.variant else str(self.labels["optimizer"])

    @property
    def metric(self) -> Metric:
        """Name and direction of the metric."""
        every: list[Record] = [*self.runs, *self.failed]
        nothing: Metric = {"name": "score", "higher_is_better": True}
        return next((run["metric"] for run in every if "metric" in run), nothing)

    @property
    def scores(self) -> dict[tuple[int, int], float]:
        """Test metric by (seed, split_seed)."""
        return {seeds_of(run): score(run) for run in self.runs}

    @property
    def score(self) -> Summary:
        """Test metric over the seeds."""
        return summary(list(self.scores.values()))

    @property
    def valid(self) -> Summary:
        """Valid metric of the best epoch over the seeds."""
        name = f"valid/{self.metric['name']}"
        values = [run["metrics"].get(name) for run in self.runs]
        return summary([math.nan if value is None else value for value in values])

    def cost(self, name: str) -> float:
        """Mean over the runs of a column of COSTS; NaN where nobody measured it."""
        values: list[float | None] = [cast(dict[str, Any], run).get(name) for run in self.runs]
        return summary([math.nan if value is None else value for value in values]).mean

    @property
    def relative_throughput(self) -> float:
        """Throughput relative to the base arm's; NaN without one."""
        return self.cost("throughput") / self.base.cost("throughput") if self.base else math.nan

    @property
    def short(self) -> bool:
        """Whether a run was cut short."""
        return any(run["short"] for run in self.runs)

    @property
    def unverified(self) -> bool:
        """Whether a run used data whose checksum is not the published one."""
        return any(not run["data"]["verified"] for run in self.runs)


@dataclass(eq=False)
class Block:
    """The arms that share data set, model and base: one table."""

    dataset: str
    model: str
    base: str
    arms: list[Arm]

    @property
    def title(self) -> str:
        """What the block's table is called."""
        return f"{self.dataset} / {self.model} / {self.base}"

    @property
    def unverified(self) -> bool:
        """Whether an arm used data whose checksum is not the published one."""
        return any(arm.unverified for arm in self.arms)

    @property
    def metric(self) -> Metric:
        """Name and direction of the metric."""
        return next((arm for arm in self.arms if arm.runs), self.arms[0]).metric


def blocks(records: Sequence[Record]) -> list[Block]:
    """Blocks and their arms, in the order of first appearance, each arm compared to its base arm."""
    grouped: dict[tuple[str, str, str], dict[tuple[str, str], Arm]] = {}
    for record in records:
        labels = record["labels"]
        arms = grouped.setdefault((labels["dataset"], labels["model"], labels["base"]), {})
        arm = arms.setdefault((labels["optimizer"], arm_config(record)), Arm(labels, [], []))
        if record["status"] == "finished":
            arm.runs.append(record)
        else:
            arm.failed.append(record)
    found = [Block(*key, list(arms.values())) for key, arms in grouped.items()]
    for block in found:
        _name_variants(block.arms)
        for arm in block.arms:
            arm.runs.sort(key=seeds_of)
            arm.base = _base_of(arm, block.arms)
            arm.published = published(arm.labels, arm.metric["name"])
    _compare([arm for block in found for arm in block.arms])
    return found


def arm_config(record: Record, without: tuple[str, ...] = ()) -> str:
    """What the runs of an arm have in common, as text: the configuration without its seeds."""
    config = important(record["config"])
    return json.dumps({k: v for k, v in config.items() if k not in ("seed", "split_seed", *without)}, sort_keys=True)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.epochs": 8} from {"train": {"epochs": 8}}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def seeds_of(run: Record) -> tuple[int, int]:
    """What pairs a run with those of other arms: (seed, split_seed)."""
    return run["labels"]["seed"], run["labels"].get("split_seed", 0)


def _base_of(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The base arm trained in the same way, else the first one on the same task and model; None without any.

    A base arm is itself compared to the first one from which only its budget (`train`) sets it apart: twice the epochs
    is what SAM spends.
    """

    def same(other: Arm, *apart: str) -> bool:
        return arm.config_without(*apart) == other.config_without(*apart)

    def same_study(other: Arm) -> bool:
        studies = [part.tuned["study"] if part.tuned else None for part in (arm, other)]
        return studies[0] is not None and studies[0] == studies[1]

    candidates = [other for other in arms if other.labels["optimizer"] == BASE_ARM]
    if arm in candidates:
        first = next(other for other in candidates if same(other, "train"))
        return None if first is arm else first
    alike = (other for other in candidates if same(other, "optimizer"))
    tuned = (other for other in candidates if same_study(other) and same(other, "optimizer", "base", "tuned"))
    near = (other for other in candidates if same(other, "optimizer", "train", "base", "schedule", "tuned"))
    return next(alike, None) or next(tuned, None) or next(near, None)


def _name_variants(arms: Sequence[Arm]) -> None:
    """Name arms of one optimizer by the values that differ between them."""
    namesakes: dict[str, list[Arm]] = {}
    for arm in arms:
        namesakes.setdefault(arm.labels["optimizer"], []).append(arm)
    for group in namesakes.values():
        if len(group) < 2:
            continue
        kinds = [[arm for arm in group if bool(arm.tuned) is tuned] for tuned in (False, True)]
        for alike in filter(None, kinds):
            parts = _differing_values(alike)
            for arm, values in zip(alike, parts, strict=True):
                arm.variant = ", ".join([*([_origin(arm, alike)] if all(kinds) or arm.tuned else []), *values])


def _differing_values(arms: Sequence[Arm]) -> list[list[str]]:
    """`rho=0.1` for each option that sets these arms apart, by arm; a tuned value says nothing, its study does."""
    configs = [arm.options for arm in arms]
    ours = {key for arm in arms if arm.tuned for key in arm.tuned["keys"]}
    keys = sorted({key for config in configs for key in config if not key.startswith("tuned.")} - ours)
    differing = [key for key in keys if len({json.dumps(config.get(key)) for config in configs}) > 1]
    # An option that `important` leaves out has the value that it had before there was a key for it.
    values = [{key: config.get(key, LATER.get(key)) for key in differing} for config in configs]
    return [[f"{key.rpartition('.')[2]}={spelled(value)}" for key, value in of.items()] for of in values]


def _origin(arm: Arm, alike: Sequence[Arm]) -> str:
    """Where an arm's options come from, with study and hash where its namesakes have others."""
    if arm.tuned is None:
        return arm.origin
    differing = [key for key in ("study", "hash") if len({other.tuned[key] for other in alike if other.tuned}) > 1]
    return " ".join([f"tuned, {arm.tuned['trials']} trials", *(str(arm.tuned[key]) for key in differing)])


def _compare(arms: Sequence[Arm]) -> None:
    """Compare every arm that has one to its base arm: one family of tests."""
    tested = [arm for arm in arms if arm.base is not None and arm.runs]
    bases = [arm.base.scores for arm in tested if arm.base]
    pairs = [
        (differences(arm.scores, base), arm.metric["higher_is_better"]) for arm, base in zip(tested, bases, strict=True)
    ]
    for arm, found in zip(tested, compare(pairs), strict=True):
        arm.versus = found if found.n else None
