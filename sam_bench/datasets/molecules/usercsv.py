"""A csv file of the user's own: dataset=csv dataset.path=my.csv dataset.smiles=SMILES dataset.targets=[y1,y2]."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sam_bench.datasets.molecules import own_table
from sam_bench.datasets.molecules.assemble import assemble
from sam_bench.datasets.molecules.chemistry import MAX_ATOMS
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.options.dataset import Csv
from sam_bench.options.rules import check_one

OWN = "a file of the user's own: data.sha256 and dataset.file_sha256 say which"
METRICS = {"regression": "rmse", "binary": "roc_auc"}


def load(*, name: str, modality: str, kind: str, metric: str | None, split: str, fractions: Sequence[float],
         path: str | None, smiles: str | int | None, targets: Sequence[str | int] | str | int | None, features: str,
         descriptors: bool, sha256: str | None, file_sha256: str | None, data_dir: Path,
         split_seed: int, max_atoms: int = MAX_ATOMS) -> Task:  # fmt: skip
    """The task of the csv (or csv.gz) at `path`: `smiles` None is its first column, `targets` None all others.

    `metric` None is rmse for regression and roc_auc for binary. The record stores the checksum of the data. If `sha256`
    is given, other data are refused; if `file_sha256` is given, another file is refused. Raises UsageError for every
    kind of broken file, before featurising.
    """
    check_one(Csv, "kind", kind, "dataset")
    rows = own_table.read(path, smiles, targets, kind)
    if file_sha256 is not None and hashlib.sha256(rows.path.read_bytes()).hexdigest() != file_sha256:
        raise UsageError(f"{rows.path} has changed since the run was planned. Run the same command again.")
    actual = rows.sha256()
    if sha256 is not None and actual != sha256:
        raise UsageError(
            f"{rows.path} holds other data than dataset.sha256 says: its sha256 is {actual}. Give the file that was "
            "meant, or leave dataset.sha256 out."
        )
    return assemble(
        rows, name=name, modality=modality, kind=kind, metric=metric or METRICS[kind], split=split,
        fractions=fractions, split_seed=split_seed, features=features, descriptors=descriptors, max_atoms=max_atoms,
        data_dir=data_dir, verified=True, notes=[OWN],
    )  # fmt: skip
