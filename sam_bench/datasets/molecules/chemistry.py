"""What RDKit says about a molecule, as small integers: the part of featurisation that runs in worker processes.

It does not import torch or other modules of the suite, so that a worker starts in a fraction of a second.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from rdkit import Chem, RDLogger
from rdkit.Chem import Descriptors, rdPartialCharges
from rdkit.ML.InfoTheory import entropy

# Substructures of GROVER's atom features: hydrogen acceptor, donor, acidic, basic. Bits 0..3 of the code "flags";
# bits 4..9 are "in a ring of 3..8 atoms".
PATTERNS = (
    "[$([O,S;H1;v2;!$(*-*=[O,N,P,S])]),$([O,S;H0;v2]),$([O,S;-]),$([N;v3;!$(N-*=[O,N,P,S])]),"
    "n&H0&+0,$([o,s;+0;!$([o,s]:n);!$([o,s]:c:n)])]",
    "[$([N;!H0;v3,v4&+1]),$([O,S;H1;+0]),n&H1&+0]",
    "[$([C,S](=[O,S,P])-[O;H1,-1])]",
    "[#7;+,$([N;H2&+0][$([C,a]);!$([C,a](=O))]),$([N;H1&+0]([$([C,a]);!$([C,a](=O))])[$([C,a]);"
    "!$([C,a](=O))]),$([N;H0&+0]([C;!$(C(=O))])([C;!$(C(=O))])[C;!$(C(=O))])]",
)
HYBRIDS = [int(Chem.HybridizationType.names[n]) for n in ("SP", "SP2", "SP3", "SP3D", "SP3D2")]
BOND_TYPES = [int(Chem.BondType.names[n]) for n in ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")]
_IMPLICIT = Chem.ValenceType.IMPLICIT
MAX_ATOMS = 600  # atoms of a molecule; the largest of MoleculeNet, in sider, has 492 without hydrogen
LETTERS = 16  # characters of a SMILES per allowed atom; MoleculeNet needs at most 3
UNCHECKED = "read without the check of valences"  # the property of such a molecule
RECURSION_HOLDS = 150  # atoms up to which RDKit's own recursion computes a characteristic polynomial


class Chunk(NamedTuple):
    """Some molecules, one after the other; `rows` are their positions in the list of SMILES."""

    rows: np.ndarray  # (m,) int64
    atoms: np.ndarray  # (m,) int32, atoms per molecule
    bonds: np.ndarray  # (m,) int32, undirected bonds per molecule
    atom_codes: np.ndarray  # (atoms, columns) int16
    bond_codes: np.ndarray  # (bonds, columns) int16
    atom_values: np.ndarray  # (atoms, 0 or 2) float32: what is not a small integer
    ends: np.ndarray  # (bonds, 2) int32, the two atoms, counted inside the molecule
    too_large: np.ndarray  # (k,) int64, rows that were left out for their size
    odd_valence: np.ndarray  # (k,) int64, rows that were read without RDKit's check of valences
    distances: np.ndarray  # (sum of atoms^2 or 0,) uint8, bonds on the shortest path; 255 is not connected
    descriptors: np.ndarray  # (m, 0 or number of RDKit descriptors) float32


def parse(smiles: object, *, any_valence: bool = False) -> Chem.Mol | None:
    """The molecule of a SMILES string, or None if RDKit cannot read it or it has no atom.

    any_valence reads a molecule that RDKit refuses once more, without the check of valences: an aluminium with six
    bonds was readable when OGB's sets were made, and is not today. All other molecules stay as they are.
    """
    if not isinstance(smiles, str):
        return None
    mol = Chem.MolFromSmiles(smiles)
    if mol is None and any_valence:
        mol = _unchecked(smiles)
    return mol if mol is not None and mol.GetNumAtoms() else None


def _unchecked(smiles: str) -> Chem.Mol | None:
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    if mol is None:
        return None
    mol.UpdatePropertyCache(strict=False)
    # The same order as in MolFromSmiles: hydrogens, checks (but for valences), stereo.
    mol = Chem.RemoveHs(mol, updateExplicitCount=True, sanitize=False)
    failed = Chem.SanitizeMol(mol, Chem.SANITIZE_ALL ^ Chem.SANITIZE_PROPERTIES, catchErrors=True)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    mol.SetBoolProp(UNCHECKED, True)
    return None if failed else mol


def too_large(smiles: object, max_atoms: int) -> bool:
    """Whether a SMILES string is too long to be parsed, or has more than `max_atoms` atoms without hydrogen.

    Rings, distances and scaffolds cost up to the third power of the number of atoms; counting atoms is cheap.
    """
    if not isinstance(smiles, str) or len(smiles) <= max_atoms:  # an atom needs at least one letter
        return False
    if len(smiles) > LETTERS * max_atoms:
        return True
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    return mol is not None and mol.GetNumHeavyAtoms() > max_atoms


@cache
def _patterns() -> list[Chem.Mol]:
    return [Chem.MolFromSmarts(smarts) for smarts in PATTERNS]


def _flags(mol: Chem.Mol) -> list[int]:
    flags = [0] * mol.GetNumAtoms()
    for bit, pattern in enumerate(_patterns()):
        for (atom,) in mol.GetSubstructMatches(pattern):
            flags[atom] |= 1 << bit
    for ring in mol.GetRingInfo().AtomRings():
        if 3 <= len(ring) <= 8:
            for atom in ring:
                flags[atom] |= 1 << (len(ring) + 1)
    return flags


def _grover_atoms(mol: Chem.Mol) -> list[tuple]:
    return [
        (
            a.GetAtomicNum(),
            a.GetIsotope(),
            a.GetTotalDegree(),
            a.GetFormalCharge(),
            int(a.GetChiralTag()),
            a.GetTotalNumHs(),
            int(a.GetHybridization()),
            a.GetIsAromatic(),
            a.GetValence(_IMPLICIT),
            flags,
        )
        for a, flags in zip(mol.GetAtoms(), _flags(mol), strict=True)
    ]


def _grover_bonds(mol: Chem.Mol) -> list[tuple]:
    return [(int(b.GetBondType()), b.GetIsConjugated(), b.IsInRing(), int(b.GetStereo())) for b in mol.GetBonds()]


def _ogb_atoms(mol: Chem.Mol) -> list[tuple]:
    return [
        (
            a.GetAtomicNum(),
            int(a.GetChiralTag()),
            a.GetTotalDegree(),
            a.GetFormalCharge(),
            a.GetTotalNumHs(),
            a.GetNumRadicalElectrons(),
            int(a.GetHybridization()),
            a.GetIsAromatic(),
            a.IsInRing(),
        )
        for a in mol.GetAtoms()
    ]


def _ogb_bonds(mol: Chem.Mol) -> list[tuple]:
    return [(int(b.GetBondType()), int(b.GetStereo()), b.GetIsConjugated()) for b in mol.GetBonds()]


def _compt_atoms(mol: Chem.Mol) -> list[tuple]:
    return [
        (
            a.GetAtomicNum(),
            int(a.GetHybridization()),
            a.GetTotalNumHs(includeNeighbors=True),
            a.GetDegree(),
            a.GetFormalCharge(),
            a.GetTotalValence(),
            a.GetIsAromatic(),
            a.IsInRing(),
        )
        for a in mol.GetAtoms()
    ]


def _compt_values(mol: Chem.Mol) -> list[tuple]:
    rdPartialCharges.ComputeGasteigerCharges(mol)
    return [(a.GetDoubleProp("_GasteigerCharge"), a.GetDoubleProp("_GasteigerHCharge")) for a in mol.GetAtoms()]


def _compt_bonds(mol: Chem.Mol) -> list[tuple]:
    return [
        (int(b.GetBondType()), int(b.GetStereo()), b.GetIsConjugated(), b.GetIsAromatic(), b.IsInRing())
        for b in mol.GetBonds()
    ]


class FeatureSet(NamedTuple):
    """How the codes of one set of features are read off a molecule."""

    atoms: Callable[[Chem.Mol], list[tuple]]
    bonds: Callable[[Chem.Mol], list[tuple]]
    atom_columns: int
    bond_columns: int
    values: Callable[[Chem.Mol], list[tuple]] | None = None
    value_columns: int = 0
    distances: bool = False


FEATURE_SETS = {
    "grover": FeatureSet(_grover_atoms, _grover_bonds, 10, 4),
    "ogb": FeatureSet(_ogb_atoms, _ogb_bonds, 9, 3),
    "compt": FeatureSet(_compt_atoms, _compt_bonds, 8, 5, _compt_values, 2, distances=True),
}


def _distances(mol: Chem.Mol) -> np.ndarray:
    return np.minimum(Chem.GetDistanceMatrix(mol), 255).astype(np.uint8).ravel()


def _descriptors(mol: Chem.Mol) -> np.ndarray:
    """All of RDKit's 2D descriptors after asinh, because some span twenty decades; undefined ones are 0."""
    values = [_value(function, mol) for function in _functions(mol).values()]
    return np.arcsinh(np.nan_to_num(np.array(values, dtype=np.float64))).astype(np.float32)


def _value(function: Callable[[Chem.Mol], float], mol: Chem.Mol) -> float:
    try:
        return function(mol)
    except Exception:  # a descriptor that does not exist may raise any exception
        return 0.0


def _functions(mol: Chem.Mol) -> dict[str, Callable[[Chem.Mol], float]]:
    """RDKit's descriptors by name; two of them are computed differently for a large molecule.

    Ipc and AvgIpc need the characteristic polynomial of the adjacency matrix. RDKit's recursion takes time in the
    fourth power of the atoms (seconds for 500) and loses all digits. From the eigenvalues it takes the third power.
    """
    functions = dict(Descriptors.descList)
    if mol.GetNumAtoms() > RECURSION_HOLDS:
        polynomial = np.abs(np.poly(np.linalg.eigvalsh(Chem.GetAdjacencyMatrix(mol).astype(np.float64))))
        information = float(entropy.InfoEntropy(polynomial))  # type: ignore[attr-defined] # RDKit's types lack it
        functions |= {"Ipc": lambda _: float(polynomial.sum()) * information, "AvgIpc": lambda _: information}
    return functions


def _table(rows: list, columns: int, dtype: type) -> np.ndarray:
    return np.array(rows, dtype=dtype).reshape(len(rows), columns)


def _molecule(text: object, max_atoms: int, any_valence: bool) -> tuple[Chem.Mol | None, bool]:
    """A molecule, or None and whether that is because of its size."""
    if too_large(text, max_atoms):
        return None, True
    mol = parse(text, any_valence=any_valence)
    return (None, True) if mol is not None and mol.GetNumAtoms() > max_atoms else (mol, False)


def read_chunk(
    smiles: Sequence[object], first_row: int, features: str, descriptors: bool, max_atoms: int = MAX_ATOMS,
    any_valence: bool = False,
) -> Chunk:  # fmt: skip
    """Codes of the molecules that RDKit can read (see `parse`) and that are not too large; `rows` names them."""
    # RDKit's types lack DisableLog. The caller names every unreadable SMILES once.
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    chosen = FEATURE_SETS[features]
    rows, sizes, atoms, bonds, ends, distances, described, large, odd = [], [], [], [], [], [], [], [], []
    values: list[tuple] = []
    for row, text in enumerate(smiles, start=first_row):
        mol, is_too_large = _molecule(text, max_atoms, any_valence)
        large += [row] if is_too_large else []
        if mol is None:
            continue
        rows.append(row)
        odd += [row] if mol.HasProp(UNCHECKED) else []
        sizes.append((mol.GetNumAtoms(), mol.GetNumBonds()))
        atoms += chosen.atoms(mol)
        bonds += chosen.bonds(mol)
        ends += [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
        values += chosen.values(mol) if chosen.values else [()] * mol.GetNumAtoms()
        if chosen.distances:
            distances.append(_distances(mol))
        described.append(_descriptors(mol) if descriptors else ())
    size = _table(sizes, 2, np.int32)
    return Chunk(
        rows=np.array(rows, dtype=np.int64),
        atoms=size[:, 0],
        bonds=size[:, 1],
        atom_codes=_table(atoms, chosen.atom_columns, np.int16),
        bond_codes=_table(bonds, chosen.bond_columns, np.int16),
        atom_values=np.nan_to_num(_table(values, chosen.value_columns, np.float32), posinf=0.0, neginf=0.0),
        ends=_table(ends, 2, np.int32),
        too_large=np.array(large, dtype=np.int64),
        odd_valence=np.array(odd, dtype=np.int64),
        distances=np.concatenate(distances) if distances else np.zeros(0, np.uint8),
        descriptors=_table(described, len(Descriptors.descList) if descriptors else 0, np.float32),
    )
