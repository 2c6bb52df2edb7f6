"""All molecules of a data set, concatenated in flat tensors; batches are made by indexing.

Directed edges come in pairs (2k, 2k+1) that are each other's reverse, so the reverse of edge e is e ^ 1.
"""

import numpy as np
import torch
from torch import Tensor

from sam_bench.datasets.molecules.ragged import ranges, starts

READ_THERE = ("atom_table", "bond_table", "atom_values", "descriptors")  # all else makes index tensors, on the CPU


class PackedMolecules:
    """All molecules of a data set, one behind the other: their features on a device, their relations on the CPU.

    `keep` (M,) int64: molecule i of this object is row keep[i] of the SMILES list. `unparsable` are the rows that RDKit
    could not read, `too_large` those with too many atoms, `odd_valence` those that it read without
    its check of valences. `arrays` come from featurize.py.
    """

    def __init__(self, arrays: dict[str, np.ndarray], total_rows: int):
        self.host: PackedMolecules | None = None  # for one on a GPU: the same on the CPU, which makes its index tensors
        self.wanted: dict[str, None] = {}  # which of them the batches on a GPU were asked for
        self.keep = torch.from_numpy(arrays["rows"].astype(np.int64))
        self.too_large = arrays["too_large"].tolist()
        self.odd_valence = arrays["odd_valence"].tolist()
        self.unparsable = sorted(set(range(total_rows)) - set(self.keep.tolist()) - set(self.too_large))
        self.atom_table = torch.from_numpy(arrays["atom_table"])
        self.bond_table = torch.from_numpy(arrays["bond_table"])
        self.atom_code = torch.from_numpy(arrays["atom_code"].astype(np.int32))
        self.bond_code = torch.from_numpy(arrays["bond_code"].astype(np.int32)).repeat_interleave(2)
        self.atom_values = _none_if_empty(torch.from_numpy(arrays["atom_values"]))
        self.distances = _none_if_empty(torch.from_numpy(arrays["distances"]))
        self.descriptors = _none_if_empty(torch.from_numpy(arrays["descriptors"]))
        self.src = torch.from_numpy(arrays["ends"].astype(np.int32)).reshape(-1)
        atoms, bonds = (torch.from_numpy(arrays[k].astype(np.int64)) for k in ("atoms", "bonds"))
        self.atoms, self.edges = atoms, 2 * bonds
        self.lines = self._relate()
        self.sizes = torch.stack([self.atoms, self.edges, self.lines, self.atoms**2])  # (4, M)
        self.first = torch.stack([starts(size) for size in self.sizes])

    def _relate(self) -> Tensor:
        """Incoming edges of atoms and of edges, numbered inside the molecule; returns the latter's counts (M,)."""
        atom_of = torch.repeat_interleave(starts(self.atoms), self.edges)
        src = self.src + atom_of
        dst = src.view(-1, 2).flip(1).reshape(-1)
        edge = torch.arange(len(src))
        into = torch.argsort(dst, stable=True)
        degree = torch.bincount(dst, minlength=int(self.atoms.sum()))
        edge_of = torch.repeat_interleave(starts(self.edges), self.edges)
        self.in_edge = (into - edge_of).int()
        self.degree = degree.int()
        self.line = _others(into, degree, at=src, without=edge ^ 1, edge_of=edge_of)
        self.line_t = _others(into, degree, at=dst, without=edge, edge_of=edge_of) ^ 1
        per_edge = torch.cat([torch.zeros(1, dtype=torch.int64), (degree[src] - 1).cumsum(0)])
        ends = self.edges.cumsum(0)
        return per_edge[ends] - per_edge[ends - self.edges]

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def device(self) -> torch.device:
        return self.atom_table.device

    @property
    def inputs(self) -> dict[str, int]:
        """What a model must know: numbers of features, atoms of the largest molecule, whether there are distances."""
        values = self.atom_values.shape[1] if self.atom_values is not None else 0
        return {
            "atom_features": self.atom_table.shape[1] + values,
            "bond_features": self.bond_table.shape[1],
            "descriptors": self.descriptors.shape[1] if self.descriptors is not None else 0,
            "max_atoms": int(self.atoms.max()) if len(self) else 0,
            "distances": int(self.distances is not None),
        }

    def scale_descriptors(self, train: Tensor) -> None:
        """Standardise the descriptors by mean and deviation over the molecules `train` (n,), then clip to +-5."""
        if self.descriptors is None:
            return
        seen = self.descriptors[train.to(self.device)].double()
        spread = seen.std(0, correction=0)
        scaled = (self.descriptors - seen.mean(0)) / torch.where(spread > 1e-8, spread, torch.inf)
        self.descriptors = scaled.clamp(-5, 5).float()

    def to(self, device: torch.device | str) -> "PackedMolecules":
        """This data set on a device (a new object that shares what is there already)."""
        moved, host = object.__new__(PackedMolecules), self.host or self
        moved.__dict__.update(self.__dict__)
        moved.host, moved.wanted = (None if torch.device(device).type == "cpu" else host), {}
        for name in READ_THERE:
            if (value := getattr(self, name)) is not None:
                setattr(moved, name, value.to(device))
        return moved


def _none_if_empty(tensor: Tensor) -> Tensor | None:
    return tensor if tensor.numel() else None


def _others(into: Tensor, degree: Tensor, *, at: Tensor, without: Tensor, edge_of: Tensor) -> Tensor:
    """For every edge e: the edges into atom at[e] except edge without[e], numbered inside the molecule; flat, int32."""
    count = degree[at]
    total = int(count.sum())
    found = into[ranges(starts(degree)[at], count, total)]
    rest = found != torch.repeat_interleave(without, count, output_size=total)
    return (found - torch.repeat_interleave(edge_of, count, output_size=total))[rest].int()
