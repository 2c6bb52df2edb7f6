"""What the runs of a table said of their data: SMILES left out, molecules in two splits, targets of one class."""

import re
from collections.abc import Sequence

from sam_bench.results.arms import Arm

SHOWN = 6  # notes under a table; `record.json` has all of them


def of_data(arms: Sequence[Arm]) -> list[str]:
    """One line for each kind of note, with the number of runs that have it.

    Each seed may have its own split, so notes that differ in their numbers alone are one kind.
    """
    runs = [run for arm in arms for run in arm.runs]
    kinds: dict[str, list[str]] = {}
    for run in runs:
        for note in run["data"]["notes"]:
            kinds.setdefault(re.sub(r"\d+|(?<=: ).*", "#", note), []).append(note)
    lines = [_line(notes, len(runs)) for notes in kinds.values()]
    return lines[:SHOWN] + ([f"data: {len(lines) - SHOWN} more kinds of notes (record.json)."] if lines[SHOWN:] else [])


def _line(notes: Sequence[str], runs: int) -> str:
    others = " with other numbers or names" if len(set(notes)) > 1 else ""
    where = "all runs" if len(notes) == runs else f"{len(notes)} of {runs} runs"
    return f"data: {notes[0]} (first of {where}{others})." if others else f"data: {notes[0]} ({where})."
