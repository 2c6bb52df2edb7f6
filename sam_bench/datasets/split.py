"""Train / valid / test splits: random, by Murcko scaffold as OGB, and by balanced scaffold as GROVER."""

import hashlib
import random
from collections.abc import Sequence
from math import floor

import numpy as np
import torch
from torch import Tensor

from sam_bench.errors import UsageError
from sam_bench.options.dataset import Molecules
from sam_bench.options.rules import check_one

NAMES = ("train", "valid", "test")


def split(
    kind: str,
    n: int,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    split_seed: int = 0,
    groups: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Disjoint and complete index sets of `n` samples, ascending; `groups` are the scaffolds, one per sample.

    Raises UsageError for an unknown kind, for fractions that do not add up to 1, or for scaffolds without molecules.
    """
    check_one(Molecules, "split", kind, "dataset")
    check_one(Molecules, "fractions", fractions, "dataset")
    if kind == "random":
        parts: Sequence[np.ndarray | list[int]] = _random(n, fractions, split_seed)
    elif groups is None or len(groups) != n:
        raise UsageError(f"dataset.split={kind} needs molecules; use dataset.split=random.")
    elif kind == "scaffold":
        parts = _scaffold(groups, fractions)
    else:
        parts = _scaffold_balanced(groups, fractions, split_seed)
    ordered = (np.sort(np.asarray(part, dtype=np.int64)) for part in parts)
    return dict(zip(NAMES, map(torch.from_numpy, ordered), strict=True))


def checksum(splits: dict[str, Tensor]) -> str:
    """SHA-256 of the three index sets."""
    digest = hashlib.sha256()
    for name in NAMES:
        index = splits[name].cpu().numpy().astype("<i8")
        digest.update(f"{name} {len(index)}\n".encode())
        digest.update(index.tobytes())
    return digest.hexdigest()


def _random(n: int, fractions: Sequence[float], split_seed: int) -> list[np.ndarray]:
    order = np.random.default_rng(split_seed).permutation(n)
    return np.split(order, _cuts(n, fractions))


def _cuts(n: int, fractions: Sequence[float]) -> tuple[int, int]:
    # the sum is first rounded to 12 digits, because 0.8 + 0.1 is below 0.9 in floating point
    return floor(round(fractions[0] * n, 12)), floor(round((fractions[0] + fractions[1]) * n, 12))


def _scaffold(groups: Sequence[str], fractions: Sequence[float]) -> list[list[int]]:
    """Whole scaffolds, the largest first, as in DeepChem and OGB (arXiv 2005.00687).

    Among scaffolds of one size, the one whose first index is later comes first.
    """
    sets = sorted(_members(groups), key=lambda members: (len(members), members[0]), reverse=True)
    train_end, valid_end = fractions[0] * len(groups), (fractions[0] + fractions[1]) * len(groups)
    train: list[int] = []
    valid: list[int] = []
    test: list[int] = []
    for members in sets:
        if len(train) + len(members) <= train_end:
            train += members
        elif len(train) + len(valid) + len(members) <= valid_end:
            valid += members
        else:
            test += members
    return [train, valid, test]


def _scaffold_balanced(groups: Sequence[str], fractions: Sequence[float], split_seed: int) -> list[list[int]]:
    """Whole scaffolds in random order, those larger than half of valid or test first, as in chemprop and GROVER.

    The random draws are the same as theirs too (Python's `random`, first the large sets, then the others), so a seed
    gives the same split: Yang et al., arXiv 1904.01561.
    """
    n = len(groups)
    train_size, valid_size, test_size = (fraction * n for fraction in fractions)
    large: list[list[int]] = []
    small: list[list[int]] = []
    for members in _members(groups):
        (large if len(members) > min(valid_size, test_size) / 2 else small).append(members)
    rng = random.Random(split_seed)
    rng.shuffle(large)
    rng.shuffle(small)
    train: list[int] = []
    valid: list[int] = []
    test: list[int] = []
    for members in large + small:
        if len(train) + len(members) <= train_size:
            train += members
        elif len(valid) + len(members) <= valid_size:
            valid += members
        else:
            test += members
    return [train, valid, test]


def _members(groups: Sequence[str]) -> list[list[int]]:
    """Indices of each group, groups in order of first appearance."""
    found: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    return list(found.values())
