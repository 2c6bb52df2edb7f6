"""What runs said of their data stands under their table, one line for each kind of note."""

from support.fabricated import make_record

from sam_bench.results.arms import blocks
from sam_bench.results.data_notes import SHOWN, of_data
from sam_bench.results.tables.table import table


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
    alike = "{} of the 40 molecules of test are also in train (the same SMILES)"
    named = "2 of 27 targets have only class 0, left out of roc_auc: a{}, b"
    records = [with_notes(seed, alike.format(3 + seed), named.format(seed)) for seed in range(3)]
    first, second = lines(records)
    assert first.startswith("data: 3 of the 40 molecules of test are also in train")
    assert "(first of all runs with other numbers or names)" in first
    assert second.startswith("data: 2 of 27 targets have only class 0, left out of roc_auc: a0, b ")


def test_the_notes_stand_in_every_format_and_are_not_too_many():
    records = [with_notes(0, *(f"note {'x' * kind}" for kind in range(SHOWN + 3)))]
    assert len(lines(records)) == SHOWN + 1
    assert lines(records)[-1] == "data: 3 more kinds of notes (record.json)."
    for form in ("terminal", "markdown", "latex", "html"):
        assert "data: note x" in table(records, format=form)
