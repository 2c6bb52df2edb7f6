"""The 1,797 handwritten digits that ship with scikit-learn: 8x8 grey images, no download; a stand-in for CIFAR."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_bench.datasets.images.arrays import Images, checksum, flip_labels
from sam_bench.datasets.images.augment import Augment
from sam_bench.datasets.split import split as make_split
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError

# Of the pixels and labels in scikit-learn 1.9.1.
SHA256 = "cc60545fa7fa1a8c9f1ff3640a09ecf808f2778025053c29f35219dead5461ca"


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 8, 8) uint8 and labels (n,), read from its file: importing scikit-learn takes seconds."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise UsageError("dataset=digits needs scikit-learn, which is not installed: pip install 'sam-bench[bench]'")
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels = table[:, :-1].reshape(-1, 1, 8, 8)
    return (pixels * 255 / 16).astype(np.uint8), table[:, -1].astype(np.int64)  # they have 17 grey levels


def verify(config: Mapping[str, object], data_dir: Path) -> str:
    """Why the digits are not verified; empty if they are."""
    return _difference(checksum(*_read()))


def _difference(digest: str) -> str:
    return "" if digest == SHA256 else f"this scikit-learn holds other digits (sha256 {digest})"


def load(*, data_dir: Path, split_seed: int, name: str, modality: str, metric: str, split: str,
         fractions: Sequence[float], mean: Sequence[float], std: Sequence[float], augment: Mapping[str, Any],
         label_noise: float) -> Task:  # fmt: skip
    """Ten classes; `label_noise` is the fraction of wrong labels in train and valid. `data_dir` is not read."""
    augmentation = Augment.from_options(augment, size=8)
    images, labels = _read()
    splits = make_split(split, len(labels), fractions, split_seed)
    digest = checksum(images, labels)
    different = _difference(digest)
    notes: tuple[str, ...] = (f"not verified: {different}",) if different else ()
    if label_noise:
        seen = np.concatenate([splits["train"].numpy(), splits["valid"].numpy()])
        labels = flip_labels(labels, seen, label_noise, 10, split_seed)
        notes += (f"label noise: {label_noise:g} of the train and valid labels are wrong",)
    return Task(
        name=name, modality=modality, kind="multiclass", num_outputs=10, metric=metric,
        inputs={"channels": 1, "size": 8}, source=Images.pack(images, mean, std, augmentation),
        targets=torch.from_numpy(labels), splits=splits, data_sha256=digest, verified=not different, notes=notes,
    )  # fmt: skip
