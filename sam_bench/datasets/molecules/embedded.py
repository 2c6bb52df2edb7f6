"""Molecules that come with RDKit itself: no download, no account, no network."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sam_bench.datasets.molecules.assemble import assemble
from sam_bench.datasets.molecules.chemistry import MAX_ATOMS
from sam_bench.datasets.molecules.table import Table
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError, did_you_mean


def load(*, name: str, modality: str, kind: str, metric: str, split: str, fractions: Sequence[float], features: str,
         descriptors: bool, sha256: str, data_dir: Path, split_seed: int,
         max_atoms: int = MAX_ATOMS) -> Task:  # fmt: skip
    """The task of a set inside RDKit; `sha256` is the checksum of its SMILES and labels in the release we know.

    Raises UsageError if there is no such set, or if this RDKit was built without the file.
    """
    table, note = _checked(name, sha256)
    return assemble(
        table, name=name, modality=modality, kind=kind, metric=metric, split=split, fractions=fractions,
        split_seed=split_seed, features=features, descriptors=descriptors, max_atoms=max_atoms, data_dir=data_dir,
        verified=not note, notes=[f"not verified: {note}"] if note else [],
    )  # fmt: skip


def verify(config: Mapping, data_dir: Path) -> str:
    """Why the data are not verified; empty if they are."""
    return _checked(config["name"], config["sha256"])[1]


def _checked(name: str, sha256: str) -> tuple[Table, str]:
    if name not in READERS:
        raise UsageError(f"RDKit holds no data set {name!r} that we read. {did_you_mean(name, READERS)}")
    table = READERS[name]()
    actual = table.sha256()
    return table, "" if actual == sha256 else f"this RDKit holds other data (sha256 {actual})"


def chembl2321810() -> Table:
    """Measured activities of 1,017 molecules from the ChEMBL document CHEMBL2321810 (RDKit Contrib, FreeWilson/data).

    The label is the activity as RDKit's file has it, a negative decimal logarithm (4.27 to 9.22).
    """
    from rdkit import RDConfig

    folder = Path(RDConfig.RDContribDir) / "FreeWilson" / "data"
    activity = dict(_rows(folder / "CHEMBL2321810_act.csv", skip=1, delimiter=","))
    rows = [(text, activity[key]) for text, key in _rows(folder / "CHEMBL2321810.smi", skip=0, delimiter=" ")]
    return _table(folder / "CHEMBL2321810.smi", rows, "activity", first_line=1)


def nci_tpsa() -> Table:
    """Topological polar surface area (square angstrom) of the first 4,999 molecules of the NCI set (RDKit Data/NCI).

    The label is *computed* from the molecule by Daylight's tools and Ertl's tpsa.c; nothing was measured. Use it to try
    out a model: a network can learn it almost exactly.
    """
    from rdkit import RDConfig

    path = Path(RDConfig.RDDataDir) / "NCI" / "first_5k.tpsa.csv"
    return _table(path, _rows(path, skip=1, delimiter=","), "TPSA", first_line=2)


READERS = {"chembl2321810": chembl2321810, "nci_tpsa": nci_tpsa}


def _rows(path: Path, skip: int, delimiter: str) -> list[tuple[str, str]]:
    if not path.is_file():
        raise UsageError(f"This RDKit has no {path}: install RDKit's wheel (pip install rdkit), which carries it.")
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row[0], row[1]) for row in list(csv.reader(stream, delimiter=delimiter))[skip:] if row]


def _table(path: Path, rows: list[tuple[str, str]], target: str, first_line: int) -> Table:
    values = np.array([[float(value)] for _, value in rows])
    lines = np.arange(first_line, first_line + len(rows))
    return Table(path, [text for text, _ in rows], values, (target,), lines)
