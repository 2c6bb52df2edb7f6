"""SMILES that mean the same molecule: the canonical one, and others with the atoms in another order."""

from collections.abc import Iterable

from rdkit import Chem, rdBase


def canonical(smiles: Iterable[str]) -> list[str]:
    """RDKit's canonical SMILES of each, the text itself where RDKit cannot read it."""
    found = []
    with rdBase.BlockLogs():
        for text in smiles:
            molecule = Chem.MolFromSmiles(text)
            found.append(text if molecule is None else Chem.MolToSmiles(molecule))
    return found


def renumbered(smiles: Iterable[str]) -> list[str]:
    """The same molecules with their atoms in reverse order, bit by bit another input with the same meaning."""
    found = []
    with rdBase.BlockLogs():
        for text in smiles:
            molecule = Chem.MolFromSmiles(text)
            order = list(range(molecule.GetNumAtoms()))[::-1]
            found.append(Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False))
    return found
