"""The table of a csv of the user's own: everything that can be said of the file without featurising it."""

from collections.abc import Sequence
from pathlib import Path

from sam_bench.datasets.molecules import table
from sam_bench.errors import UsageError


def read(
    path: str | None, smiles: str | int | None, targets: Sequence[str | int] | str | int | None, kind: str
) -> table.Table:
    """The csv (or csv.gz) at `path`: `smiles` None is its first column, `targets` None all others.

    Raises UsageError for every kind of broken file. Needs no torch: a sweep reads the file before its first cell.
    """
    if not path:
        raise UsageError(
            "dataset=csv needs a file: dataset.path=my.csv dataset.smiles=SMILES dataset.targets=[y1,y2] "
            "dataset.kind=regression (or binary)."
        )
    smiles, columns = None if smiles is None else str(smiles), _names(targets)
    if columns is not None and len(set(columns)) != len(columns):
        raise UsageError(f"dataset.targets names a column twice: {list(columns)}.")
    if smiles is not None and smiles in (columns or ()):
        raise UsageError(f"dataset.targets holds {smiles!r}, the column of the SMILES.")
    return table.read_csv_table(Path(path).expanduser().absolute(), smiles, columns, kind)


def _names(targets: Sequence[str | int] | str | int | None) -> list[str] | None:
    """The columns asked for; one may be given alone, and Hydra reads a name like 588342 as a number."""
    if targets is None:
        return None
    return [str(name) for name in (targets if isinstance(targets, list | tuple) else [targets])]
