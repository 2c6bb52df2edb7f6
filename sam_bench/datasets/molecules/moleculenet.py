"""The molecule sets of MoleculeNet (Wu et al. 2018, arXiv 1703.00564), from their official csv files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam_bench.datasets.download import File, obtain
from sam_bench.datasets.molecules import table
from sam_bench.datasets.molecules.assemble import assemble
from sam_bench.datasets.molecules.chemistry import MAX_ATOMS
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError


def load(*, name: str, modality: str, kind: str, metric: str, split: str, fractions: Sequence[float], smiles: str,
         targets: Sequence[str] | None, features: str, descriptors: bool, verify: bool, file: Mapping[str, Any],
         data_dir: Path, split_seed: int, max_atoms: int = MAX_ATOMS) -> Task:  # fmt: skip
    """The task of one MoleculeNet set: `smiles` and `targets` (None: all others) are columns of the official csv.

    Uses a file in `data_dir`, in the official or in chemprop's layout, else fetches the official one. Raises UsageError
    if the checksum is known and wrong (unless `verify` is off), and for a broken file.
    """
    found = obtain(name, File(**file), data_dir, verify)
    if found.layout == "chemprop":
        rows = table.read_csv_table(found.path, None, None, kind)
        if targets is not None:
            if len(targets) != len(rows.target_names):
                raise UsageError(f"{found.path} has {len(rows.target_names)} label columns, {name} has {len(targets)}.")
            rows = replace(rows, target_names=tuple(targets))
    else:
        rows = table.read_csv_table(found.path, smiles, targets, kind)
    return assemble(
        rows, name=name, modality=modality, kind=kind, metric=metric, split=split, fractions=fractions,
        split_seed=split_seed, features=features, descriptors=descriptors, max_atoms=max_atoms, data_dir=data_dir,
        verified=found.verified, notes=[f"not verified: {found.note}"] if found.note else [],
    )  # fmt: skip
