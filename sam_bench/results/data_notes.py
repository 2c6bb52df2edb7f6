"""What the runs of a table said of their data: molecules in two splits, targets of one class, SMILES left out."""

import re
from collections.abc import Iterable, Mapping, Sequence

from sam_bench.api import Finished
from sam_bench.results.arms import Arm

SHOWN = 6  # other notes under a table; `record.json` has all of them
# Findings: what makes a number weaker than it looks. Each is one line, with a count for each split, however many notes
# the runs have about it (one for each split, metric and reason).
FINDINGS: Mapping[str, Sequence[re.Pattern[str]]] = {
    "molecules that are also in train (the same SMILES)": (
        re.compile(r"(?P<count>\d+) of the (?P<of>\d+) molecules of (?P<split>\w+) are also in train"),
    ),
    "targets with one class only or no label, for which there is no ROC AUC": (
        re.compile(r"(?P<count>\d+) of (?P<of>\d+) targets? ha(?:ve|s) one class only in (?P<split>\w+)"),
        re.compile(r"(?P<split>\w+): (?P<count>\d+) of (?P<of>\d+) targets? ha(?:ve|s) (?:only class|no label)"),
    ),
    "constant targets": (
        re.compile(r"(?P<count>\d+) of (?P<of>\d+) targets? (?:are|is) constant in (?P<split>\w+)"),
    ),
}  # fmt: skip


def of_data(arms: Sequence[Arm]) -> list[str]:
    """A line for each finding, then one for each kind of other note, with the number of runs that have it.

    Each seed may have its own split, so notes that differ in their numbers alone are one kind.
    """
    runs = [run for arm in arms for run in arm.runs]
    found = [line for text, patterns in FINDINGS.items() if (line := _finding(text, patterns, runs))]
    kinds: dict[str, list[str]] = {}
    for note in (note for run in runs for note in run["data"]["notes"]):
        if not any(pattern.match(note) for patterns in FINDINGS.values() for pattern in patterns):
            kinds.setdefault(re.sub(r"\d+|(?<=: ).*", "#", note), []).append(note)
    lines = [_line(notes, len(runs)) for notes in kinds.values()]
    more = [f"data: {len(lines) - SHOWN} more kinds of notes (record.json)."] if lines[SHOWN:] else []
    return found + lines[:SHOWN] + more


def _finding(text: str, patterns: Sequence[re.Pattern[str]], runs: Sequence[Finished]) -> str:
    """`data: constant targets: 1 of 12 in train, 2 to 3 of 12 in test (all runs).`; "" where no run says so."""
    each = [counts for run in runs if (counts := _counts(patterns, run["data"]["notes"]))]
    if not each:
        return ""
    parts = []
    for split in dict.fromkeys(split for counts in each for split in counts):
        known = [counts.get(split, (0, 0)) for counts in each]
        parts.append(f"{_range(c for c, _ in known)} of {_range(of for _, of in known if of)} in {split}")
    return f"data: {text}: {', '.join(parts)} ({_where(len(each), len(runs))})."


def _counts(patterns: Sequence[re.Pattern[str]], notes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """{split: (count, of how many)} in one run.

    Notes of one pattern add up (one for each reason). Several patterns count the same targets: the largest sum holds.
    """
    found: dict[str, tuple[int, int]] = {}
    for pattern in patterns:
        own: dict[str, tuple[int, int]] = {}
        for match in filter(None, map(pattern.match, notes)):
            count, _ = own.get(match["split"], (0, 0))
            own[match["split"]] = (count + int(match["count"]), int(match["of"]))
        for split, counted in own.items():
            found[split] = max(found.get(split, (0, 0)), counted)
    return found


def _range(numbers: Iterable[int]) -> str:
    known = sorted(set(numbers))
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _where(n: int, runs: int) -> str:
    return "all runs" if n == runs else f"{n} of {runs} runs"


def _line(notes: Sequence[str], runs: int) -> str:
    others, where = " with other numbers or names" if len(set(notes)) > 1 else "", _where(len(notes), runs)
    return f"data: {notes[0]} (first of {where}{others})." if others else f"data: {notes[0]} ({where})."
