"""Published values: what the papers print for the same data set, model and method."""

import csv
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_bench.api import Labels

REFERENCE = Path(__file__).with_name("paper_reference.csv")
# How a published metric becomes one of ours: (our name, value -> ours, spread -> ours).
CONVERT: dict[str, tuple[str, Callable[[float], float], Callable[[float], float]]] = {
    "test_accuracy_pct": ("accuracy", lambda v: v / 100, lambda s: s / 100),
    "test_error_pct": ("accuracy", lambda v: 1 - v / 100, lambda s: s / 100),
    "test_roc_auc": ("roc_auc", float, float),
    "test_rmse": ("rmse", float, float),
}
# What the papers call the base optimizer alone, by the start of our base's name.
BASE_ARMS = {
    "sgd": {"sgd", "sgdmomentum", "sgdadamwbaseline"},
    "adamw": {"adamw", "sgdadamwbaseline"},
    "adam": {"adam"},
}
# looksam_cifar.yaml holds the options that the Momentum-SAM paper took for LookSAM.
OTHER_NAMES = {"momentumsam": "msam", "looksamcifar": "looksam"}


@dataclass(frozen=True)
class Published:
    """One printed value, in the unit of our metric; `spread` None where none is printed, `kind` says what it is."""

    value: float
    spread: float | None
    kind: str
    source: str


@functools.cache
def _rows(file: Path) -> tuple[dict[str, Any], ...]:
    with open(file, newline="") as lines:
        return tuple(csv.DictReader(lines))


def published(labels: Labels, metric: str, file: Path = REFERENCE) -> list[Published]:
    """Values printed for these labels (dataset, model, base, optimizer) and test metric, in the file's order.

    Names are compared without case, punctuation and what stands in brackets. A match says that data set, model and
    method are the same, not that the protocol is: the source names it.
    """
    dataset, model = _plain(labels["dataset"]), _plain(labels["model"])
    found = []
    for row in _rows(file):
        ours, convert, spread = CONVERT.get(row["metric"], ("", float, float))
        if (
            ours == metric
            and _plain(row["dataset"]) == dataset
            and _plain(_head(row["model"])) == model
            and _same_method(row["method"], labels)
        ):
            source = f"{row['paper']}, arXiv:{row['arxiv']}, {row['table']}: {row['model']}, {row['method']}"
            below = row["spread"].startswith("<")  # printed as `<0.1`
            wide = spread(float(row["spread"].lstrip("<"))) if row["spread"] else None
            kind = f"less than this, {row['spread_kind']}" if below else row["spread_kind"]
            found.append(Published(convert(float(row["value"])), wide, kind, source))
    return found


def _same_method(method: str, labels: Labels) -> bool:
    name, ours = _plain(_head(method)), _plain(labels["optimizer"])
    if ours == "erm":
        base = _plain(labels["base"])
        start = next((start for start in BASE_ARMS if base.startswith(start)), None)
        return start is not None and name in BASE_ARMS[start]
    return name == OTHER_NAMES.get(ours, ours)


def _head(text: str) -> str:
    """What stands before a bracket or a slash between blanks."""
    return re.split(r"\s\(|\s/\s", text)[0]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
