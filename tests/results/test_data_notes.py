"""What runs said of their data stands under their table, one line for each kind of note, findings first."""

import numpy as np
import torch
from support.fabricated import make_record

from sam_bench import metrics
from sam_bench.datasets.molecules.assemble import one_class
from sam_bench.datasets.molecules.doubts import constant, in_two_splits
from sam_bench.results import budgets
from sam_bench.results.arms import blocks
from sam_bench.results.data_notes import SHOWN, of_data
from sam_bench.results.tables.table import table

SPLITS = {"train": torch.arange(0, 6), "valid": torch.arange(6, 9), "test": torch.arange(9, 12)}


def with_notes(seed, *notes, optimizer="sam"):
    record = make_record(optimizer, seed)
    return {**record, "data": {**record["data"], "notes": list(notes)}}


def lines(records):
    return of_data(blocks(records)[0].arms)


def test_the_same_note_of_all_runs_is_one_line():
    records = [with_notes(seed, "a subset of 5000 of the 50000 training images") for seed in range(3)]
    assert lines(records) == ["data: a subset of 5000 of the 50000 training images (all runs)."]
    assert lines([make_record()]) == []
    assert lines([*records, make_record("erm", 0)])[0].endswith("(3 of 4 runs).")


def test_notes_that_differ_in_numbers_or_names_alone_are_one_kind():
    named = "{} of 900 SMILES cannot be parsed and are left out: line {}"
    (line,) = lines([with_notes(seed, named.format(2 + seed, 7 * seed)) for seed in range(3)])
    assert line.startswith("data: 2 of 900 SMILES cannot be parsed and are left out: line 0 ")
    assert "(first of all runs with other numbers or names)" in line


def test_forty_notes_about_one_class_tasks_are_one_line_with_counts():
    """The notes are those that the data set and the metric really write, over ten splits."""
    names = [f"task{i}" for i in range(30)]
    records = []
    for seed in range(10):
        targets = torch.ones(12, 30)
        targets[::2] = 0.0  # both classes everywhere
        targets[6:9, : 20 + seed] = 1.0  # one class in valid
        targets[9:, 5:8] = 0.0  # class 0, class 1 and no label in test
        targets[9:, 8:10] = 1.0
        targets[9:, 10:12] = float("nan")
        notes = one_class(targets, SPLITS, names)
        for split in ("valid", "test"):
            labels = targets[SPLITS[split]].numpy()
            found = metrics.compute("roc_auc", labels, np.zeros_like(labels), names)[1]
            notes += [f"{split}: {note}" for note in found]
        records.append(with_notes(seed, *notes))
    assert sum(len(record["data"]["notes"]) for record in records) >= 40
    (line,) = lines(records)
    assert line == (
        "data: targets with one class only or no label, for which there is no ROC AUC: 20 to 29 of 30 in valid, "
        "7 of 30 in test (all runs)."
    )


def test_duplicates_and_constant_targets_are_findings_and_stand_first():
    smiles = ["C", "CC", "CCC", "N", "O", "F", "C", "CC", "Cl", "Br", "I", "C"]
    targets = torch.arange(24.0).reshape(12, 2)
    targets[6:9, 0] = 1.0
    notes = [*in_two_splits(smiles, SPLITS), *constant(targets, SPLITS, ["a", "b"])]
    others = [f"note {'x' * kind}" for kind in range(SHOWN + 3)]
    found = lines([with_notes(0, *others, *notes), with_notes(1, *others)])
    assert found[:2] == [
        "data: molecules that are also in train (the same SMILES): 2 of 3 in valid, 1 of 3 in test (1 of 2 runs).",
        "data: constant targets: 1 of 2 in valid (1 of 2 runs).",
    ]
    assert len(found) == 2 + SHOWN + 1


def test_the_notes_stand_in_every_format_and_are_not_too_many():
    records = [with_notes(0, *(f"note {'x' * kind}" for kind in range(SHOWN + 3)))]
    assert len(lines(records)) == SHOWN + 1
    assert lines(records)[-1] == "data: 3 more kinds of notes (record.json)."
    for form in ("terminal", "markdown", "latex", "html"):
        assert "data: note x" in table(records, format=form)


def test_findings_stand_under_the_table_of_budgets():
    note = "3 of the 40 molecules of test are also in train (the same SMILES)"
    records = [with_notes(0, note), with_notes(0, note, optimizer="erm")]
    (section,) = budgets.sections(records)
    assert section.notes[-1] == "data: molecules that are also in train (the same SMILES): 3 of 40 in test (all runs)."
