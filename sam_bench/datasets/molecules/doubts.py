"""What makes a split of molecules weaker than it looks: the same molecule on both sides, a target that says nothing."""

from collections.abc import Mapping, Sequence

from torch import Tensor

NAMED = 20  # of the targets that a note is about, as many are named


def in_two_splits(smiles: Sequence[str], splits: Mapping[str, Tensor]) -> list[str]:
    """A note for each of valid and test that holds SMILES which also stand in train, letter by letter.

    RDKit could also find those written in two ways, but takes seconds for what is read in every run.
    """
    trained = {smiles[i] for i in splits["train"].tolist()}
    notes = []
    for name in ("valid", "test"):
        index = splits[name].tolist()
        if count := sum(smiles[i] in trained for i in index):
            notes.append(f"{count} of the {len(index)} molecules of {name} are also in train (the same SMILES)")
    return notes


def constant(targets: Tensor, splits: Mapping[str, Tensor], names: Sequence[str]) -> list[str]:
    """A note for each split in which targets (N, k), NaN = missing, have a single value, or none."""
    notes = []
    for split, index in splits.items():
        if len(index) < 2:  # nothing could vary
            continue
        labels = targets[index]
        low, high = labels.nan_to_num(float("inf")).amin(0), labels.nan_to_num(float("-inf")).amax(0)
        if alone := [names[i] for i in (low >= high).nonzero().flatten().tolist()]:
            more = f" and {len(alone) - NAMED} more" if len(alone) > NAMED else ""
            shown = ", ".join(alone[:NAMED]) + more
            notes.append(f"{len(alone)} of {len(names)} targets are constant in {split}: {shown}")
    return notes
