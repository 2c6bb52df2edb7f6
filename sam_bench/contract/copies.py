"""Samples of a data set that are the same sample."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from sam_bench.datasets.task import Task


def contradicting(task: Task, keys: Sequence[str | bytes]) -> str:
    """How many samples of the train split have another label than the first of their copies."""
    labels = task.targets[task.splits["train"]].reshape(len(keys), -1)
    first: dict[str | bytes, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    twins = labels[torch.tensor([first[key] for key in keys])]
    different = int(((labels != twins) & ~labels.isnan() & ~twins.isnan()).any(1).sum())
    return f", {different} of them with another label than the first" if different else ", all with equal labels"


def identities(task: Task, index: Tensor) -> Iterable[str | bytes]:
    """What makes a sample that sample."""
    if (smiles := getattr(task.source, "smiles", None)) is not None:
        from sam_bench.datasets.molecules.alike import canonical

        return canonical([smiles[i] for i in index.tolist()])
    return (
        hashlib.sha256(row.numpy().tobytes()).digest()
        for part in torch.split(index, 1024)
        for row in cast(Any, task.collate(part)).x.reshape(len(part), -1)
    )
