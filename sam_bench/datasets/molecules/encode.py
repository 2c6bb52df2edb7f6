"""From the integer codes of chemistry.py to the numbers a model sees.

A data set has a few hundred different atoms and a few dozen different bonds, and only these are expanded. A packed data
set stores one code per atom and a small table.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from rdkit import Chem

from sam_bench.datasets.molecules.chemistry import BOND_TYPES, HYBRIDS

_STEREO = {n: int(Chem.BondStereo.names[f"STEREO{n}"]) for n in ("NONE", "ANY", "Z", "E", "CIS", "TRANS")}


def _position(value: np.ndarray, choices: Sequence[int]) -> np.ndarray:
    """(n,) -> (n,) int64, the position in the choices; len(choices) stands for everything else."""
    place = {choice: i for i, choice in enumerate(choices)}
    return np.array([place.get(int(v), len(choices)) for v in value], dtype=np.int64)


def _one_hot(value: np.ndarray, choices: Sequence[int]) -> np.ndarray:
    """(n,) -> (n, len(choices) + 1); the last column is everything else."""
    return np.eye(len(choices) + 1, dtype=np.float32)[_position(value, choices)]


def _is_one_of(value: np.ndarray, choices: Sequence[int]) -> np.ndarray:
    return np.stack([value == choice for choice in choices], axis=1).astype(np.float32)


def _numbers(codes: np.ndarray, *columns: int) -> np.ndarray:
    return codes[:, list(columns)].astype(np.float32)


def grover_atoms(codes: np.ndarray) -> np.ndarray:
    """(n, 10) codes -> (n, 151) float32: the atom features of GROVER (Rong et al. 2020, Table 6)."""
    table = Chem.GetPeriodicTable()
    number, isotope, degree, charge, chirality, hydrogens, hybrid, _, valence, flags = codes.T
    mass = [
        table.GetMassForIsotope(int(z), int(i)) if i else table.GetAtomicWeight(int(z))
        for z, i in zip(number, isotope, strict=True)
    ]
    return np.concatenate(
        [
            _one_hot(number, range(1, 101)),
            _one_hot(degree, range(6)),
            # The published code uses the charge as a Python index into a list of six, so -1 is its last entry.
            np.eye(6, dtype=np.float32)[charge.astype(np.int64) % 6],
            _one_hot(chirality, range(4)),
            _one_hot(hydrogens, range(5)),
            _one_hot(hybrid, HYBRIDS),
            _numbers(codes, 7),
            np.array(mass, dtype=np.float32).reshape(-1, 1) * np.float32(0.01),
            _one_hot(valence, range(7)),
            np.stack([flags >> bit & 1 for bit in range(10)], axis=1).astype(np.float32),
        ],
        axis=1,
    )


def grover_bonds(codes: np.ndarray) -> np.ndarray:
    """(n, 4) codes -> (n, 14) float32: no bond (never set), four types, conjugated, in a ring, stereo 0..5 or other."""
    none = np.zeros((len(codes), 1), dtype=np.float32)
    return np.concatenate(
        [none, _is_one_of(codes[:, 0], BOND_TYPES), _numbers(codes, 1, 2), _one_hot(codes[:, 3], range(6))], axis=1
    )


def ogb_atoms(codes: np.ndarray) -> np.ndarray:
    """(n, 9) codes -> (n, 9) int64, OGB's categories."""
    ranges = {0: range(1, 119), 1: range(4), 2: range(11), 3: range(-5, 6), 4: range(9), 5: range(5), 6: HYBRIDS}
    columns = [_position(codes[:, i], ranges[i]) if i in ranges else codes[:, i] for i in range(9)]
    return np.stack(columns, axis=1).astype(np.int64)


def ogb_bonds(codes: np.ndarray) -> np.ndarray:
    """(n, 3) codes -> (n, 3) int64, OGB's categories; a stereo that OGB does not know counts as none."""
    stereo = [_STEREO[n] for n in ("NONE", "Z", "E", "CIS", "TRANS", "ANY")]
    place = _position(codes[:, 1], stereo) % len(stereo)
    return np.stack([_position(codes[:, 0], BOND_TYPES), place, codes[:, 2]], axis=1).astype(np.int64)


def compt_atoms(codes: np.ndarray) -> np.ndarray:
    """(n, 8) codes -> (n, 113) float32; the two Gasteiger charges make them CoMPT's 115 (Chen et al. 2021)."""
    scale = np.array([8, 4, 8, 8, 1, 1], dtype=np.float32)
    return np.concatenate(
        [
            _one_hot(codes[:, 0], range(1, 101)),
            _one_hot(codes[:, 1], HYBRIDS),
            _numbers(codes, 2, 3, 4, 5, 6, 7) / scale,
        ],
        axis=1,
    )


def compt_bonds(codes: np.ndarray) -> np.ndarray:
    """(n, 5) codes -> (n, 13) float32: four types, six kinds of stereo, conjugated, aromatic, in a ring."""
    stereo = [_STEREO[n] for n in ("ANY", "CIS", "E", "NONE", "TRANS", "Z")]
    return np.concatenate(
        [_is_one_of(codes[:, 0], BOND_TYPES), _is_one_of(codes[:, 1], stereo), _numbers(codes, 2, 3, 4)], axis=1
    )


class Encoding(NamedTuple):
    """The two expansions of one feature set."""

    atoms: Callable[[np.ndarray], np.ndarray]
    bonds: Callable[[np.ndarray], np.ndarray]


ENCODINGS = {
    "grover": Encoding(grover_atoms, grover_bonds),
    "ogb": Encoding(ogb_atoms, ogb_bonds),
    "compt": Encoding(compt_atoms, compt_bonds),
}
