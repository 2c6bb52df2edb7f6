"""SMILES of the same molecule: the canonical one, and one with the atoms in another order."""

from collections.abc import Iterable, Sequence

from rdkit import Chem, rdBase

from sam_bench.datasets.molecules.chemistry import parse
from sam_bench.datasets.molecules.chunks import in_chunks


def canonical(smiles: Sequence[str], jobs: int | None = None) -> list[str]:
    """RDKit's canonical SMILES of each, or the text itself if RDKit cannot read it; jobs None uses every core."""
    return in_chunks(_canonical, smiles, jobs)


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
