"""Murcko scaffolds of molecules, the groups of a scaffold split."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sam_bench.datasets.molecules.chemistry import parse
from sam_bench.datasets.molecules.chunks import in_chunks


def scaffolds(smiles: Sequence[str], *, chirality: bool, cache_dir: Path | None, jobs: int | None = None) -> list[str]:
    """The Bemis-Murcko scaffold of each SMILES, which must be parsable; acyclic molecules share the empty scaffold.

    OGB's splits distinguish chirality, those of chemprop and GROVER do not. The scaffolds are cached in `cache_dir` by
    content and RDKit version; a cache that cannot be written is ignored.
    """
    import rdkit

    key = hashlib.sha256("\n".join([rdkit.__version__, str(chirality), *smiles]).encode()).hexdigest()
    path = None if cache_dir is None else cache_dir / f"scaffolds-{key[:32]}.txt"
    if path is not None and path.is_file():
        found = path.read_text().split("\n")
        if len(found) == len(smiles):
            return found
    found = in_chunks(partial(murcko, chirality=chirality), smiles, jobs)
    if path is not None:
        _keep(path, "\n".join(found))
    return found


def murcko(smiles: Sequence[str], chirality: bool) -> list[str]:
    """Murcko scaffolds as SMILES, one after the other."""
    from rdkit import rdBase
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    with rdBase.BlockLogs():
        return [MurckoScaffoldSmiles(mol=parse(s, any_valence=True), includeChirality=chirality) for s in smiles]


def _keep(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
