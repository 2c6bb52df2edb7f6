"""Splits: disjoint, complete, reproducible, and those of OGB to the last index."""

import csv
import gzip

import numpy as np
import pytest
import torch

from sam_bench.datasets.molecules.scaffold import murcko, scaffolds
from sam_bench.datasets.split import checksum, split
from sam_bench.errors import UsageError
from sam_bench.options.dataset import Molecules
from sam_bench.options.rules import options_of

GROUPS = [f"s{i % 7}" if i % 3 else f"alone{i}" for i in range(200)]


@pytest.mark.parametrize("kind", options_of(Molecules)["split"].words)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_split_is_disjoint_complete_and_reproducible(kind, seed):
    first, again = (split(kind, 200, split_seed=seed, groups=GROUPS) for _ in range(2))
    assert checksum(first) == checksum(again)
    assert sorted(torch.cat(list(first.values())).tolist()) == list(range(200))
    assert all(len(index) for index in first.values())


@pytest.mark.parametrize("kind", ["random", "scaffold_balanced"])
def test_the_seed_changes_a_random_split(kind):
    checksums = {checksum(split(kind, 200, split_seed=seed, groups=GROUPS)) for seed in range(5)}
    assert len(checksums) == 5


@pytest.mark.parametrize("kind", ["scaffold", "scaffold_balanced"])
def test_no_scaffold_is_in_two_splits(kind):
    parts = split(kind, 200, groups=GROUPS)
    seen = [{GROUPS[i] for i in index.tolist()} for index in parts.values()]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_balanced_puts_large_scaffolds_into_train_first():
    groups = ["big"] * 15 + [f"s{i}" for i in range(85)]  # 15 > half of the ten of valid
    for seed in range(5):
        assert set(range(15)) <= set(split("scaffold_balanced", 100, split_seed=seed, groups=groups)["train"].tolist())


def test_sizes_of_a_random_split_do_not_suffer_from_rounding():
    sizes = [len(index) for index in split("random", 50000, (0.9, 0.05, 0.05)).values()]
    assert sizes == [45000, 2500, 2500]
    assert [len(index) for index in split("random", 10, (0.7, 0.2, 0.1)).values()] == [7, 2, 1]


def test_the_checksum_tells_splits_apart():
    one = {"train": torch.tensor([0, 1]), "valid": torch.tensor([2]), "test": torch.tensor([3])}
    other = {"train": torch.tensor([0]), "valid": torch.tensor([1, 2]), "test": torch.tensor([3])}
    assert checksum(one) != checksum(other)


def test_user_errors_say_what_to_do():
    with pytest.raises(UsageError, match="scaffold"):
        split("scafold", 10)
    with pytest.raises(UsageError, match="add up to 1"):
        split("random", 10, (0.8, 0.1, 0.2))
    with pytest.raises(UsageError, match="random"):
        split("scaffold", 10)


@pytest.mark.data
@pytest.mark.parametrize("name", ["molbace", "molbbbp", "molesol", "molfreesolv"])
def test_scaffold_split_is_that_of_ogb(name, data_dir):
    folder = data_dir / "ogb" / f"ogbg_{name}"
    with gzip.open(folder / "mapping" / "mol.csv.gz", "rt") as stream:
        smiles = [row["smiles"] for row in csv.DictReader(stream)]
    ours = split("scaffold", len(smiles), groups=murcko(smiles, chirality=True))
    for part, index in ours.items():
        theirs = np.loadtxt(folder / "split" / "scaffold" / f"{part}.csv.gz", dtype=np.int64)
        assert np.array_equal(index.numpy(), theirs)


def test_scaffolds_are_cached_and_chirality_counts(tmp_path):
    smiles = ["C[C@H]1CCCC[C@@H]1c1ccccc1", "C[C@@H]1CCCC[C@@H]1c1ccccc1", "CCO"]
    first = scaffolds(smiles, chirality=True, cache_dir=tmp_path)
    assert first == murcko(smiles, chirality=True)
    assert first[2] == ""
    (cached,) = tmp_path.iterdir()
    cached.write_text("a\nb\nc")
    assert scaffolds(smiles, chirality=True, cache_dir=tmp_path) == ["a", "b", "c"]
    assert scaffolds(smiles, chirality=False, cache_dir=tmp_path)[0] == murcko(smiles, chirality=False)[0]


def test_scaffolds_in_parallel_are_the_same(monkeypatch):
    monkeypatch.setattr("sam_bench.datasets.molecules.chunks.PARALLEL_FROM", 0)
    smiles = ["c1ccccc1C", "C1CCCCC1C(=O)O", "CCO"] * 400
    assert scaffolds(smiles, chirality=True, cache_dir=None, jobs=2) == murcko(smiles, chirality=True)
