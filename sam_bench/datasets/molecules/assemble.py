"""From a table of SMILES and labels to a task: featurise, leave out what cannot be parsed, split, note."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor

from sam_bench import metrics
from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.chemistry import MAX_ATOMS
from sam_bench.datasets.molecules.doubts import constant, in_two_splits
from sam_bench.datasets.molecules.featurize import PackedMolecules, featurize
from sam_bench.datasets.molecules.scaffold import scaffolds
from sam_bench.datasets.molecules.table import Table
from sam_bench.datasets.split import split as make_split
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.options.dataset import Molecules as Options
from sam_bench.options.rules import check_one

log = logging.getLogger(__name__)
NAMED = 20  # a note names at most this many lines or targets


@dataclass(frozen=True)
class Molecules:
    """Packed molecules as a source of batches; molecules are not augmented."""

    packed: PackedMolecules
    smiles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.packed)

    def collate(self, index: Tensor, *, train: bool, generator: torch.Generator | None):
        """The batch of molecules `index` (n,)."""
        return MoleculeBatch(self.packed, index)

    def to(self, device: torch.device | str) -> "Molecules":
        """The same molecules on `device`."""
        return Molecules(self.packed.to(device), self.smiles)


def assemble(table: Table, *, name: str, modality: str, kind: str, metric: str, split: str,
             fractions: Sequence[float], split_seed: int, features: str, descriptors: bool, data_dir: Path,
             verified: bool, max_atoms: int = MAX_ATOMS, any_valence: bool = False, notes: Sequence[str] = (),
             official: dict[str, np.ndarray] | None = None,
             evaluate: Callable[[np.ndarray, np.ndarray], tuple[float, list[str]]] | None = None) -> Task:  # fmt: skip
    """The task of a table; `official` are the row numbers of a published split, used with split=official.

    Molecules of more than `max_atoms` atoms are left out. any_valence reads those that fail only RDKit's check of
    valences, with a note. Raises UsageError if no molecule can be parsed or the split does not exist.
    """
    _check(name, kind, metric, split, fractions, official)
    cache = _cache(data_dir)
    packed = featurize(table.smiles, cache_dir=cache, descriptors=descriptors, features=features, max_atoms=max_atoms,
                       any_valence=any_valence)  # fmt: skip
    keep = np.asarray(packed.keep)
    if split == "official":
        assert official is not None  # _check has made sure of this
        splits = _renumber(official, keep, len(table.smiles))
    else:
        kept = [table.smiles[i] for i in keep]
        splits = make_split(split, len(kept), fractions, split_seed, _groups(kept, split, cache))
    packed.scale_descriptors(splits["train"])
    targets = torch.from_numpy(table.targets[keep]).float()
    notes = [*notes, *left_out(table, packed, max_atoms, official if split == "official" else None)]
    for note in notes:
        log.warning("%s: %s", name, shorten(note, 160))
    if kind == "binary":
        notes += one_class(targets, splits, table.target_names)
    else:
        notes += constant(targets, splits, table.target_names)
    notes += in_two_splits([table.smiles[i] for i in keep], splits)
    return Task(
        name=name, modality=modality, kind=kind, num_outputs=targets.shape[1], metric=metric,
        inputs=dict(packed.inputs), source=Molecules(packed, tuple(table.smiles[i] for i in keep)),
        targets=targets, splits=splits, verified=verified, data_sha256=table.sha256(),
        notes=tuple(notes), target_names=table.target_names, evaluate=evaluate,
    )  # fmt: skip


def read_again(source: Molecules, index: Tensor, *, split: str, features: str, max_atoms: int,
               data_dir: Path) -> Molecules:  # fmt: skip
    """The molecules `index` (n,) of `source`, read without the cache; descriptors are left out.

    Raises ValueError if the cache has other scaffolds for them, or molecules that cannot be read.
    """
    smiles = [source.smiles[i] for i in index.tolist()]
    kept = _groups(source.smiles, split, _cache(data_dir))
    if kept is not None and [kept[i] for i in index.tolist()] != _groups(smiles, split, None):
        raise ValueError("the scaffolds in the cache are not those of the molecules")
    odd = bool(source.packed.odd_valence)  # whether it was read with any_valence
    packed = featurize(smiles, cache_dir=None, features=features, max_atoms=max_atoms, any_valence=odd)
    if len(packed) != len(smiles):
        raise ValueError(f"the cache has {len(smiles) - len(packed)} molecules that cannot be read")
    return Molecules(packed, tuple(smiles))


def _groups(smiles: Sequence[str], split: str, cache: Path | None) -> list[str] | None:
    """The scaffolds, where the split needs them."""
    return scaffolds(smiles, chirality=split == "scaffold", cache_dir=cache) if "scaffold" in split else None


def _check(name: str, kind: str, metric: str, split: str, fractions: Sequence[float], official: dict | None) -> None:
    """Check the options before the molecules are read."""
    check_one(Options, "kind", kind, "dataset")
    check_one(Options, "fractions", fractions, "dataset")
    metrics.check(metric, kind)
    if split != "official":
        check_one(Options, "split", split, "dataset")
    elif official is None:
        raise UsageError(f"{name} has no official split; use dataset.split=random, scaffold or scaffold_balanced.")


def _cache(data_dir: Path) -> Path | None:
    """The folder for parsed molecules, or None, which keeps nothing, if the data folder is read-only."""
    folder = data_dir / "cache"
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(nearest, os.W_OK):
        return folder
    log.warning("%s cannot be written: molecules are featurised again in every run", nearest)
    return None


def left_out(table: Table, packed: PackedMolecules, max_atoms: int,
             official: dict[str, np.ndarray] | None = None) -> list[str]:  # fmt: skip
    """Notes that count the SMILES left out, or read without a check, and name their lines.

    For a published split they say how many of each part are left out. They do not show the SMILES: a record may be
    published, and the user's molecules may be private.
    """
    reasons = {
        "cannot be parsed": packed.unparsable,
        f"have more than dataset.max_atoms={max_atoms} atoms": packed.too_large,
    }
    notes = []
    for reason, lost in reasons.items():
        if lost:
            parts = {name: np.isin(lost, index).sum() for name, index in (official or {}).items()}
            where = f" ({', '.join(f'{name} {count}' for name, count in parts.items())})" if parts else ""
            notes.append(
                f"{len(lost)} of {len(table.smiles)} SMILES {reason} and are left out{where}: {_lines(table, lost)}"
            )
    if odd := packed.odd_valence:
        notes.append(
            f"{len(odd)} of {len(table.smiles)} SMILES fail RDKit's check of valences and are read without it: "
            f"{_lines(table, odd)}"
        )
    return notes


def _lines(table: Table, rows: Sequence[int]) -> str:
    named = ", ".join(str(table.lines[i]) for i in rows[:NAMED])
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"line{'s' if len(rows) > 1 else ''} {named}{more}"


def one_class(targets: Tensor, splits: dict[str, Tensor], names: Sequence[str]) -> list[str]:
    """A note for each split in which binary targets have one class only, or no label."""
    notes = []
    for split, index in splits.items():
        labels = targets[index]
        both = (labels == 0).any(0) & (labels == 1).any(0)
        if not both.all():
            alone = [names[i] for i in (~both).nonzero().flatten().tolist()]
            shown = ", ".join(alone[:NAMED]) + (f" and {len(alone) - NAMED} more" if len(alone) > NAMED else "")
            notes.append(f"{len(alone)} of {len(names)} targets have one class only in {split}: {shown}")
    return notes


def _renumber(official: dict[str, np.ndarray], keep: np.ndarray, rows: int) -> dict[str, Tensor]:
    """Turn row numbers of the file into indices of the rows that were kept."""
    place = np.full(rows, -1, dtype=np.int64)
    place[keep] = np.arange(len(keep))
    return {name: torch.from_numpy(place[index][place[index] >= 0]) for name, index in official.items()}
