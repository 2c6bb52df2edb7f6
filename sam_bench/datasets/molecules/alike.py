"""SMILES of the same molecule: the canonical one, and one with the atoms in another order."""

import os
from collections.abc import Iterable, Sequence
from itertools import chain

from joblib import Parallel, delayed
from rdkit import Chem, rdBase

from sam_bench.datasets.molecules.chemistry import parse

PARALLEL_FROM = 5000  # with fewer molecules, starting processes takes longer than the work
CHUNK = 1000


def canonical(smiles: Sequence[str], jobs: int | None = None) -> list[str]:
    """RDKit's canonical SMILES of each, or the text itself if RDKit cannot read it; jobs None uses every core."""
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1 or len(smiles) < PARALLEL_FROM:
        return _canonical(smiles)
    chunks = (smiles[i : i + CHUNK] for i in range(0, len(smiles), CHUNK))
    return list(chain.from_iterable(Parallel(n_jobs=jobs)(delayed(_canonical)(chunk) for chunk in chunks)))


def _canonical(smiles: Sequence[str]) -> list[str]:
    found = []
    with rdBase.BlockLogs():
        for text in smiles:
            molecule = Chem.MolFromSmiles(text)
            found.append(text if molecule is None else Chem.MolToSmiles(molecule))
    return found


def renumbered(smiles: Iterable[str]) -> list[str]:
    """The same molecules with their atoms in reverse order: different text, same meaning."""
    found = []
    with rdBase.BlockLogs():
        for text in smiles:
            molecule = parse(text, any_valence=True)
            assert molecule is not None  # a data set holds only what can be read
            order = list(range(molecule.GetNumAtoms()))[::-1]
            found.append(Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False))
    return found
