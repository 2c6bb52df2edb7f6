"""What the report's scripts read: arms for the charts, runs for the list and their details, as compressed JSON."""

import base64
import gzip
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sam_bench.api import Record
from sam_bench.results.arms import COSTS, Arm, Block, flatten
from sam_bench.results.looks import Look, looks
from sam_bench.results.report import measured, rows, tuning
from sam_bench.results.tables.cells import unit
from sam_bench.store.identity import important
from sam_bench.store.index import curve, score

CLOCKS = ("epoch", "grad_evals", "train_seconds")
POINTS = 150  # of a learning curve at most, evenly spread
RUN_FIELDS = ("short", "best_epoch", "epochs", "steps", "samples", "parameters", "skipped_steps", *COSTS,
              "eval_seconds", "setup_seconds")  # fmt: skip


def pack(data: Mapping[str, Any]) -> str:
    """Compressed JSON in base64, without dates: the same data are the same text."""
    text = json.dumps(_rounded(data), separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def data(experiments: Mapping[str, Sequence[Record]], found: Mapping[str, Sequence[Block]]) -> dict[str, Any]:
    """`blocks` and `budgets` for the charts, `runs` for the list; runs share `configs` and `provenances` by number."""
    configs, provenances = _Shared(), _Shared()
    runs: dict[str, dict[str, Any]] = {}
    for name, records in experiments.items():
        for record in records:
            run = runs.setdefault(record["run_id"], _run(record, configs, provenances))
            run["experiments"].append(name)
    shown = [(name, block) for name, blocks in found.items() for block in blocks]
    styles = {name: looks(blocks) for name, blocks in found.items()}
    charts = measured.charts([block for _, block in shown])
    return {
        "blocks": [
            _block(name, block, styles[name]) | {"measured": charts.get(i), "tuning": tuning.charts(block)}
            for i, (name, block) in enumerate(shown)
        ],
        "budgets": [part for name, records in experiments.items() for part in rows.of_budgets(name, records)],
        "runs": list(runs.values()),
        "configs": configs.values,
        "provenances": provenances.values,
    }


class _Shared:
    """Values that many runs have in common, each kept once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """The number of `value`, which is added when it is new."""
        text = json.dumps(value, sort_keys=True, default=str)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]


def _run(record: Record, configs: _Shared, provenances: _Shared) -> dict[str, Any]:
    config = {k: v for k, v in flatten(important(record["config"])).items() if k not in ("seed", "split_seed")}
    own = {key: record.get("provenance", {}).get(key) for key in ("started", "finished", "resumed")}
    shared = {key: value for key, value in record.get("provenance", {}).items() if key not in own}
    value = score(record)
    return {
        "id": record["run_id"],
        "status": record["status"],
        "experiments": [],
        "labels": record["labels"],
        "metric": record.get("metric", {}).get("name"),
        "value": None if math.isnan(value) else value,
        "metrics": record["metrics"] if record["status"] == "finished" else {},
        "facts": {key: record.get(key) for key in RUN_FIELDS} | own,
        "data": flatten(record.get("data", {})),
        "error": record.get("error"),
        "command": command(record),
        "config": configs.place(config),
        "provenance": provenances.place(flatten(shared)),
    }


def command(record: Record) -> str:
    """The command that makes this run again."""
    if "overrides" in record:
        return shlex.join(["sam-bench", "run", *record["overrides"]])
    labels = record["labels"]
    groups = [f"{key}={labels[key]}" for key in ("dataset", "model", "base", "optimizer", "seed")]
    return shlex.join(["sam-bench", "run", *groups])


def _block(experiment: str, block: Block, style: Mapping[str, Look]) -> dict[str, Any]:
    scale, digits, name = unit(block)
    return {
        "experiment": experiment,
        "title": block.title + (" (unverified data)" if block.unverified else ""),
        "metric": name.removeprefix("test/"),
        "higher": block.metric["higher_is_better"],
        "digits": digits,
        "arms": [_arm(arm, scale, style[arm.name]) for arm in block.arms if arm.runs],
        "target": rows.to_target(block, style),
    }


def _arm(arm: Arm, scale: float, look: Look) -> dict[str, Any]:
    versus = arm.versus
    return {
        "name": arm.name,
        "look": look.packed,
        "mean": arm.score.mean * scale,
        "std": arm.score.std * scale,
        "n": arm.score.n,
        "valid": {"mean": arm.valid.mean * scale, "std": arm.valid.std * scale},
        "published": rows.published(arm, scale),
        "costs": {name: arm.cost(name) for name in COSTS},
        "versus": versus
        and {
            "mean": versus.mean * scale,
            "low": math.nan if versus.too_few else versus.low * scale,  # no interval from so few pairs
            "high": math.nan if versus.too_few else versus.high * scale,
            "n": versus.n,
            "p": versus.p_holm,
            "significant": versus.significant,
            "better": versus.better,
            "base": arm.base.name if arm.base else "",
        },
        "curve": _mean_curve(arm, scale),
    }


def _mean_curve(arm: Arm, scale: float) -> dict[str, list[float]]:
    """Mean clocks, mean valid metric and its sample standard deviation over the runs, by epoch."""
    name = f"valid/{arm.metric['name']}"
    by_epoch: dict[float, list[Mapping[str, Any]]] = {}
    for run in arm.runs:
        for row in curve(run) if "path" in run else []:
            if not math.isnan(row.get(name, math.nan)):
                by_epoch.setdefault(row["epoch"], []).append(row)
    epochs = sorted(by_epoch)
    if len(epochs) > POINTS:
        epochs = [epochs[round(i * (len(epochs) - 1) / (POINTS - 1))] for i in range(POINTS)]
    found: dict[str, list[float]] = {key: [] for key in (*CLOCKS, "mean", "std")}
    for epoch in epochs:
        rows = by_epoch[epoch]
        for clock in CLOCKS:
            found[clock].append(sum(row[clock] for row in rows) / len(rows))
        mean = sum(row[name] for row in rows) / len(rows)
        spread = sum((row[name] - mean) ** 2 for row in rows) / (len(rows) - 1) if len(rows) > 1 else 0.0
        found["mean"].append(mean * scale)
        found["std"].append(math.sqrt(spread) * scale)
    return found


def _rounded(value: Any) -> Any:
    """Six significant digits are enough for a chart; what does not exist is null."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
