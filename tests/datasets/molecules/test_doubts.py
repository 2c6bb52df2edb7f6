"""Notes on splits that are weaker than they look."""

import torch

from sam_bench.datasets.molecules import doubts

SPLITS = {"train": torch.tensor([0, 1, 2]), "valid": torch.tensor([3]), "test": torch.tensor([4, 5])}


def test_the_same_molecule_on_both_sides():
    smiles = ["C", "CC", "CCC", "CC", "CCCC", "C"]
    assert doubts.in_two_splits(smiles, SPLITS) == [
        "1 of the 1 molecules of valid are also in train (the same SMILES)",
        "1 of the 2 molecules of test are also in train (the same SMILES)",
    ]
    assert doubts.in_two_splits(["C" * n for n in range(1, 7)], SPLITS) == []


def test_a_constant_target():
    targets = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, float("nan")], [4.0, 5.0], [5.0, 1.0], [6.0, 2.0]])
    assert doubts.constant(targets, {"train": SPLITS["train"], "test": SPLITS["test"]}, ("a", "b")) == [
        "1 of 2 targets are constant in train: b"
    ]
    assert doubts.constant(targets, {"train": torch.tensor([], dtype=torch.long)}, ("a", "b")) == []
    names = [f"t{i}" for i in range(25)]
    (note,) = doubts.constant(torch.ones(6, 25), {"train": SPLITS["train"]}, names)
    assert note.startswith("25 of 25 targets are constant in train: t0, ")
    assert note.endswith("t19 and 5 more")
