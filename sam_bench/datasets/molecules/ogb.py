"""The molecule sets of the Open Graph Benchmark (Hu et al. 2020, arXiv 2005.00687): their split, their evaluator."""

import hashlib
import importlib.util
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sam_bench import metrics
from sam_bench.datasets.bounded import LARGEST_UNPACKED, open_text, too_much
from sam_bench.datasets.download import File, obtain, writable
from sam_bench.datasets.molecules import table
from sam_bench.datasets.molecules.assemble import assemble
from sam_bench.datasets.molecules.chemistry import MAX_ATOMS
from sam_bench.datasets.split import NAMES
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError

MAPPING = "mapping/mol.csv.gz"
SPLIT = "split/scaffold/{}.csv.gz"
METRICS = {"roc_auc": "rocauc", "rmse": "rmse"}


def load(*, name: str, modality: str, kind: str, metric: str, split: str, fractions: Sequence[float], features: str,
         descriptors: bool, verify: bool, sha256: str | None, file: Mapping[str, Any], data_dir: Path,
         split_seed: int, max_atoms: int = MAX_ATOMS) -> Task:  # fmt: skip
    """The task of one OGB set, from the folder that the ogb package unpacks to; else the archive is fetched.

    SMILES and labels are those of mapping/mol.csv.gz. RDKit reads atoms and bonds, those of molecules with an odd
    valence too, so that no molecule of the benchmark is missing; features=ogb gives OGB's 9 and 3 integers. `sha256` is
    the checksum of the four files that are read. Raises UsageError if the checksum is known and wrong (unless `verify`
    is off), and for an incomplete folder.
    """
    folder = _folder(name, File(**file), data_dir, verify)
    notes = []
    if wrong := _difference(folder, sha256):
        if verify and sha256:
            raise UsageError(
                f"{folder} does not hold OGB's release: {wrong}. Move it away to have it fetched, or use it as it is "
                f"with dataset.verify=false (the record will say so)."
            )
        notes.append(f"not verified: {wrong}")
    columns = table.columns(folder / MAPPING)
    rows = table.read_csv_table(folder / MAPPING, "smiles", [c for c in columns if c not in ("smiles", "mol_id")], kind)
    judge = partial(evaluate, evaluator(name), metric, rows.target_names) if metric in METRICS else None
    return assemble(
        rows, name=name, modality=modality, kind=kind, metric=metric, split=split, fractions=fractions,
        split_seed=split_seed, features=features, descriptors=descriptors, max_atoms=max_atoms, data_dir=data_dir,
        any_valence=True, verified=not wrong, notes=notes, official=_official(folder, len(rows.smiles)), evaluate=judge,
    )  # fmt: skip


def verify(config: Mapping, data_dir: Path) -> str:
    """Why the unpacked folder of a data set is not verified as OGB's release; empty if it is."""
    folder = File(**config["file"]).folder_in(data_dir)
    assert folder is not None  # the catalogue calls this only if the data set is there
    return _difference(folder, config["sha256"])


def evaluator(name: str):
    """OGB's own Evaluator, loaded from its file: importing the package would ask the network for a newer version.

    Raises UsageError if the ogb package is not installed.
    """
    package = importlib.util.find_spec("ogb")  # finds a package without importing it
    if package is None or not package.submodule_search_locations:
        raise UsageError("OGB's evaluator is missing: pip install 'sam-bench[bench]', or pip install ogb.")
    path = Path(package.submodule_search_locations[0]) / "graphproppred" / "evaluate.py"
    spec = importlib.util.spec_from_file_location("ogb_evaluate", path)
    assert spec is not None  # a .py file always has a spec with a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Evaluator(name.replace("_", "-"))


def evaluate(
    judge, metric: str, targets: Sequence[str], y_true: np.ndarray, y_pred: np.ndarray
) -> tuple[float, list[str]]:
    """The metric (n, k) as OGB's Evaluator computes it, with our notes; NaN if it cannot score anything."""
    ours, notes = metrics.compute(metric, y_true, y_pred, targets)
    if np.isnan(ours):
        return ours, notes
    return float(judge.eval({"y_true": y_true, "y_pred": y_pred})[METRICS[metric]]), notes


def _folder(name: str, file: File, data_dir: Path, verify: bool) -> Path:
    """The unpacked folder. If there is none, it is made from the archive, which may have to be fetched."""
    if folder := file.folder_in(data_dir):
        return folder
    folder = data_dir / file.unpacked[0]
    _unpack(obtain(name, file, data_dir, verify).path, folder)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack OGB's archive, which has all files in one folder, into `folder`, completely or not at all."""
    with writable(folder.parent), tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
        try:
            with zipfile.ZipFile(archive) as files:
                _check_members(archive, files.infolist())
                for member in files.infolist():
                    parts = PurePosixPath(member.filename).parts[1:]
                    if member.is_dir() or not parts or ".." in parts:
                        continue
                    target = Path(part, "whole", *parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(files.read(member))
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted, unknown
            raise UsageError(f"{archive} is broken ({error}): remove it to have it fetched again.") from None
        Path(part, "whole").rename(folder)


def _check_members(archive: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse links, which no data set needs, and archives that would fill the disk."""
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UsageError(f"{archive} holds a link, {member.filename!r}, which OGB's do not: remove it.")
    if sum(member.file_size for member in members) > LARGEST_UNPACKED:
        raise too_much(archive, LARGEST_UNPACKED)


def _difference(folder: Path, sha256: str | None) -> str:
    """Why the four files that are read are not verified as OGB's; empty if they are."""
    digest = hashlib.sha256()
    for name in (MAPPING, *map(SPLIT.format, NAMES)):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise UsageError(f"{folder / name} cannot be read ({error.strerror}): move {folder} away.") from None
    if sha256 is None:
        return "no checksum of this release is known to us"
    actual = digest.hexdigest()
    return "" if actual == sha256 else f"the sha256 of mapping and split is {actual}, not {sha256}"


def _official(folder: Path, rows: int) -> dict[str, np.ndarray]:
    """OGB's scaffold split as ascending row numbers of the mapping."""
    parts = {}
    for name in NAMES:
        path = folder / SPLIT.format(name)
        try:
            with open_text(path) as stream:
                parts[name] = np.sort(np.array([int(line) for line in stream if line.strip()], dtype=np.int64))
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"{path} is broken ({error}): move {folder} away to have it fetched.") from None
    if not np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(rows)):
        raise UsageError(f"The split files of {folder} do not hold each of its {rows} molecules once.")
    return parts
