"""Molecules to tensors, once: in parallel, with a progress bar, cached by content, RDKit version and feature set."""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rdkit
from joblib import delayed
from tqdm import tqdm

from sam_bench.datasets.molecules.chemistry import FEATURE_SETS, MAX_ATOMS, Chunk, read_chunk
from sam_bench.datasets.molecules.chunks import cores, processes
from sam_bench.datasets.molecules.encode import ENCODINGS
from sam_bench.datasets.molecules.packed import PackedMolecules
from sam_bench.errors import UsageError, did_you_mean

FORMAT = 3  # raise it when the meaning of a cached file changes
_CHUNK = 256  # molecules per call of a worker: some tens of milliseconds
_SERIAL = 2048  # below this, starting workers costs more than it saves


def featurize(
    smiles: Sequence[str],
    *,
    cache_dir: Path | None,
    jobs: int | None = None,
    descriptors: bool = False,
    features: str = "grover",
    max_atoms: int = MAX_ATOMS,
    any_valence: bool = False,
    progress: bool = True,
) -> PackedMolecules:
    """Parse all SMILES once and pack the molecules. Rows that RDKit cannot read are listed in `.unparsable`.

    Molecules of more than `max_atoms` atoms are left out and listed in `.too_large`. any_valence reads what fails only
    RDKit's check of valences; `.odd_valence` lists these rows.

    features: "grover" (151 atom and 14 bond numbers, Rong et al. 2020), "ogb" (9 and 3 integers) or "compt" (115 and
    13, Chen et al. 2021, with the distances between atoms). descriptors adds RDKit's 2D descriptors. cache_dir None
    keeps nothing on disk; jobs None uses every core. Raises UsageError for an unknown feature set, for a list without a
    readable SMILES, and if the cache cannot be written.
    """
    if features not in FEATURE_SETS:
        raise UsageError(f"Unknown feature set {features!r}. {did_you_mean(features, FEATURE_SETS)}")
    smiles = list(smiles)
    path = (
        None
        if cache_dir is None
        else Path(cache_dir) / f"{features}-{_key(smiles, features, descriptors, max_atoms, any_valence)}.npz"
    )
    arrays = _load(path) if path is not None else None
    if arrays is None:
        arrays = _pack(list(_read(smiles, features, descriptors, max_atoms, any_valence, jobs, progress)), features)
        if path is not None:
            _store(path, arrays)
    if not len(arrays["rows"]):
        raise UsageError(_nothing_left(len(smiles), len(arrays["too_large"]), max_atoms))
    return PackedMolecules(arrays, total_rows=len(smiles))


def _nothing_left(total: int, large: int, max_atoms: int) -> str:
    if large:
        return (
            f"{large} of the {total} SMILES have more than dataset.max_atoms={max_atoms} atoms, and RDKit can read "
            "none of the others. Raise dataset.max_atoms; rings and distances cost its third power."
        )
    return f"RDKit could read none of the {total} SMILES. Is dataset.smiles the right column?"


def _key(smiles: list[str], features: str, descriptors: bool, max_atoms: int, any_valence: bool) -> str:
    head = f"{FORMAT}|{rdkit.__version__}|{features}|{descriptors}|{max_atoms}|{any_valence}|{len(smiles)}\n"
    return hashlib.sha256((head + "\n".join(map(str, smiles))).encode()).hexdigest()[:32]


def _read(
    smiles: list[str],
    features: str,
    descriptors: bool,
    max_atoms: int,
    any_valence: bool,
    jobs: int | None,
    progress: bool,
) -> Iterator[Chunk]:
    jobs = jobs or cores()
    costly = len(smiles) * (10 if descriptors else 1)
    calls = (
        delayed(read_chunk)(smiles[i : i + _CHUNK], i, features, descriptors, max_atoms, any_valence)
        for i in range(0, len(smiles), _CHUNK)
    )
    bar = tqdm(total=len(smiles), desc="reading molecules", unit="mol", disable=None if progress else True)
    with bar, processes(jobs if costly > _SERIAL else 1) as workers:
        for i, chunk in enumerate(workers(calls)):
            bar.update(min(_CHUNK, len(smiles) - i * _CHUNK))
            yield chunk


def _pack(chunks: list[Chunk], features: str) -> dict[str, np.ndarray]:
    """Concatenate the chunks; each different atom and bond is expanded once, in a table."""
    if not chunks:
        chunks = [read_chunk([], 0, features, False)]
    whole = Chunk(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))
    atoms, atom_code = np.unique(whole.atom_codes, axis=0, return_inverse=True)
    bonds, bond_code = np.unique(whole.bond_codes, axis=0, return_inverse=True)
    kept = ("rows", "atoms", "bonds", "atom_values", "ends", "too_large", "odd_valence", "distances", "descriptors")
    encoding = ENCODINGS[features]
    return {name: getattr(whole, name) for name in kept} | {
        "atom_table": encoding.atoms(atoms),
        "bond_table": encoding.bonds(bonds),
        "atom_code": atom_code.reshape(-1).astype(np.int32),
        "bond_code": bond_code.reshape(-1).astype(np.int32),
    }


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """The cached arrays; None if there is no file or it is damaged, and the arrays must be made again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _store(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write under another name, then rename, so that a reader sees the whole file or none."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type] # no array is named allow_pickle
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UsageError(
            f"Cannot keep the featurised molecules in {path.parent}: {error.strerror or error}. "
            "Choose another data folder with SAM_BENCH_DATA, or make room."
        ) from error
