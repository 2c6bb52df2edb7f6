"""A batch of molecules as one graph, made by indexing flat tensors; only what a model asks for is computed.

Every sum over neighbours is a bag: "row r of the result is the sum of the rows index[start[r]:start[r+1]]". The
transposed bag is stored too, because the gradient of a sum over neighbours is the sum over the reversed relation. So no
scatter is needed, and sums are taken in one fixed order on every device.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sam_bench.datasets.molecules.hosted import on_host
from sam_bench.datasets.molecules.packed import PackedMolecules
from sam_bench.datasets.molecules.ragged import ranges, starts

NOT_CONNECTED = 255  # among distances
BLOCK_SIZES = 2 ** torch.arange(5, 30)  # most atoms of a molecule in each block


class Bags(NamedTuple):
    """Which rows are summed into which row: index (entries,), start (rows,); `_t` is the transposed one. All int32."""

    index: Tensor  # type: ignore[assignment] # hides tuple.index, which nobody calls
    start: Tensor
    index_t: Tensor
    start_t: Tensor


class Block(NamedTuple):
    """Molecules of similar size, padded to the largest of them, for computations over all pairs of atoms."""

    molecules: Tensor  # (k,) int64, their places in the batch
    largest: int
    row: int  # where its k * largest rows begin among those of all blocks
    mask: Tensor  # (k, largest) bool: where there is an atom
    edges: Tensor  # (edges,) int64, which edges of the batch it has
    at: Tensor  # (edges,) int64, the pair of atoms of each, in (k * largest * largest)
    distance: Tensor  # (k, largest, largest) bonds; inf without a path and in columns of padding, 0 in its rows


class MoleculeBatch:
    """Some molecules as one graph. Tensors are made when they are first read, so a model pays only for what it reads.

    x (A, atom features), edge_index (2, E), edge_attr (E, bond features), batch (A,), num_graphs, y as in
    torch_geometric; descriptors (n, d) or None; atom_bags (atoms summed over neighbouring atoms), in_bags (atoms over
    incoming edges), line_bags (edges over the edges that lead into them, except their reverse), out_bags (edges over
    their one source atom), graph_bags (molecules over their atoms), dense_bags (molecules padded to the largest, with
    dense_mask), blocks and block_bags (molecules padded to the largest of like size, with the distances between atoms),
    in_time (the atoms as a recurrence reads them); position (A,) int64, the atom's number in its molecule; y is set by
    the task.
    """

    def __init__(self, packed: PackedMolecules, index: Tensor):
        self.packed = packed
        self.y: Tensor | None = None
        self.index = index.cpu()
        self.num_graphs = len(index)
        self.host = None if packed.host is None else MoleculeBatch(packed.host, self.index)  # what makes its indices
        self.num_nodes: int
        self.num_edges: int
        if self.host is not None:
            self.num_nodes, self.num_edges = self.host.num_nodes, self.host.num_edges
            return
        self._sizes, first = packed.sizes[:, self.index], packed.first[:, self.index]
        self._first_atom, self._first_edge, self._first_line, self._first_pair = first
        self.num_nodes, self.num_edges, self._num_lines, self._num_pairs = self._sizes.sum(1).tolist()

    def __len__(self) -> int:
        return self.num_graphs

    def select(self, index: Tensor) -> "MoleculeBatch":
        """The batch of the molecules index (k,) of this one, with their y."""
        chosen = MoleculeBatch(self.packed, self.index[index.cpu()])
        chosen.y = None if self.y is None else self.y[index.to(self.y.device)]
        return chosen

    def to(self, device: torch.device | str) -> "MoleculeBatch":
        """The same batch on a device."""
        moved = MoleculeBatch(self.packed.to(device), self.index)
        moved.y = None if self.y is None else self.y.to(device)
        return moved

    @on_host
    def atoms_per_graph(self) -> Tensor:
        return self._sizes[0]

    @on_host
    def edges_per_graph(self) -> Tensor:
        return self._sizes[1]

    @on_host
    def _atom(self) -> Tensor:
        return ranges(self._first_atom, self.atoms_per_graph, self.num_nodes)

    @on_host
    def _edge(self) -> Tensor:
        return ranges(self._first_edge, self.edges_per_graph, self.num_edges)

    @on_host
    def _molecule(self) -> Tensor:
        return self.index

    @on_host
    def _atom_code(self) -> Tensor:
        return self.packed.atom_code[self._atom]

    @on_host
    def _bond_code(self) -> Tensor:
        return self.packed.bond_code[self._edge]

    @on_host
    def first_atom(self) -> Tensor:
        """(n,) int64, the row of x where the atoms of each molecule begin."""
        return starts(self.atoms_per_graph)

    def _per_edge(self, value: Tensor) -> Tensor:
        return torch.repeat_interleave(value, self.edges_per_graph, output_size=self.num_edges)

    @on_host
    def batch(self) -> Tensor:
        graphs = torch.arange(self.num_graphs)
        return torch.repeat_interleave(graphs, self.atoms_per_graph, output_size=self.num_nodes)

    @on_host
    def position(self) -> Tensor:
        return torch.arange(self.num_nodes) - self.first_atom[self.batch]

    @cached_property
    def x(self) -> Tensor:
        packed = self.packed
        x = packed.atom_table.index_select(0, self._atom_code)
        if packed.atom_values is None:
            return x
        return torch.cat([x, packed.atom_values.index_select(0, self._atom)], dim=1)

    @cached_property
    def edge_attr(self) -> Tensor:
        return self.packed.bond_table.index_select(0, self._bond_code)

    @cached_property
    def descriptors(self) -> Tensor | None:
        every = self.packed.descriptors
        return None if every is None else every.index_select(0, self._molecule)

    @on_host
    def src(self) -> Tensor:
        """(E,) int64, the atom that an edge comes from."""
        return self.packed.src[self._edge] + self._per_edge(self.first_atom)

    @on_host
    def dst(self) -> Tensor:
        """(E,) int64, the atom that an edge leads to."""
        return self.src.view(-1, 2).flip(1).reshape(-1)

    @on_host
    def edge_index(self) -> Tensor:
        return torch.stack([self.src, self.dst])

    @on_host
    def degree(self) -> Tensor:
        """(A,) int32, bonds of an atom."""
        return self.packed.degree[self._atom]

    @on_host
    def in_bags(self) -> Bags:
        into = (self.packed.in_edge[self._edge] + self._per_edge(starts(self.edges_per_graph))).int()
        each = torch.arange(self.num_edges, dtype=torch.int32)
        return Bags(into, starts(self.degree), self.dst.int(), each)

    @on_host
    def atom_bags(self) -> Bags:
        neighbours, start = self.src[self.in_bags.index].int(), self.in_bags.start
        return Bags(neighbours, start, neighbours, start)

    @on_host
    def out_bags(self) -> Bags:
        into = self.in_bags
        return Bags(self.src.int(), into.start_t, into.index ^ 1, into.start)

    @on_host
    def graph_bags(self) -> Bags:
        atoms = torch.arange(self.num_nodes, dtype=torch.int32)
        return Bags(atoms, self.first_atom.int(), self.batch.int(), atoms)

    @cached_property
    def largest(self) -> int:
        """Number of atoms of the largest molecule of the batch."""
        return int(self.lengths.max())

    @on_host
    def dense_mask(self) -> Tensor:
        """(n, largest) bool: where a molecule has an atom when molecules are padded to the largest one."""
        return torch.arange(self.largest) < self.atoms_per_graph[:, None]

    @on_host
    def dense_bags(self) -> Bags:
        filled = self.dense_mask.view(-1).int()
        atoms = torch.arange(self.num_nodes, dtype=torch.int32)
        place = (self.batch * self.largest + self.position).int()
        return Bags(atoms, starts(filled), place, atoms)

    @cached_property
    def lengths(self) -> Tensor:
        """(n,) int64 on the CPU, atoms per molecule."""
        return self.packed.sizes[0, self.index]

    @on_host
    def in_time(self) -> tuple[Bags, Tensor]:
        """The first atom of every molecule, then the second, ...; and the order of the molecules there, longest first.

        As sums of one atom each, and as places in the batch (n,) int64.
        """
        by_length = self.lengths.argsort(descending=True, stable=True)
        number = torch.arange(self.largest)[:, None]
        rows = (self.first_atom[by_length] + number)[self.lengths[by_length] > number]
        each = torch.arange(self.num_nodes, dtype=torch.int32)
        return Bags(rows.int(), each, rows.argsort().int(), each), by_length

    @cached_property
    def at_each_time(self) -> Tensor:
        """(largest,) int64 on the CPU, how many molecules have a first atom, a second, ..."""
        return (self.lengths > torch.arange(self.largest)[:, None]).sum(1)

    @on_host
    def blocks(self) -> tuple[Block, ...]:
        """The molecules by size, in blocks of at most 32, 64, 128, ... atoms, so that small ones get little padding."""
        bucket = torch.bucketize(self.lengths, BLOCK_SIZES)
        found, row = [], 0
        for number in bucket.unique().tolist():
            chosen = (bucket == number).nonzero().flatten()
            largest = int(self.lengths[chosen].max())
            found.append(self._block(chosen, largest, row))
            row += len(chosen) * largest
        return tuple(found)

    def _block(self, chosen: Tensor, largest: int, row: int) -> Block:
        pairs_in_all = int(self.packed.sizes[3, self.index[chosen]].sum())
        place = torch.full((self.num_graphs,), -1)
        place[chosen] = torch.arange(len(chosen))
        graph = place[self.batch[self.src]]
        edges = (graph >= 0).nonzero().flatten()
        at = (graph * largest + self.position[self.src])[edges] * largest + self.position[self.dst[edges]]
        mask = torch.arange(largest) < self.atoms_per_graph[chosen, None]
        return Block(chosen, largest, row, mask, edges, at, self._distance(chosen, largest, pairs_in_all))

    def _distance(self, chosen: Tensor, largest: int, total: int) -> Tensor:
        assert self.packed.distances is not None  # only models that need features with distances ask for blocks
        pairs, size = self._sizes[3][chosen], self.atoms_per_graph[chosen]
        values = self.packed.distances[ranges(self._first_pair[chosen], pairs, total)].float()
        graph, first, size = (
            torch.repeat_interleave(v, pairs, output_size=total)
            for v in (torch.arange(len(chosen)), starts(pairs), size)
        )
        number = torch.arange(total) - first
        place = (graph * largest + number // size) * largest + number % size
        dense = values.new_full((len(chosen) * largest**2,), torch.inf)
        dense[place] = values.masked_fill(values == NOT_CONNECTED, torch.inf)
        in_padding = torch.arange(largest) >= self.atoms_per_graph[chosen, None]
        return dense.view(len(chosen), largest, -1).masked_fill(in_padding[:, :, None], 0.0)

    @on_host
    def block_bags(self) -> Bags:
        """The bags that make the padded rows of all blocks, block after block, from the atoms."""
        first = self.first_atom.new_empty(self.num_graphs)
        rows = 0
        for block in self.blocks:
            count = len(block.molecules)
            first[block.molecules] = torch.arange(count) * block.largest + block.row
            rows += count * block.largest
        place = first[self.batch] + self.position
        filled = torch.zeros(rows, dtype=torch.int32)
        filled[place] = 1
        atoms = torch.arange(self.num_nodes, dtype=torch.int32)
        return Bags(place.argsort().int(), starts(filled), place.int(), atoms)

    @on_host
    def line_bags(self) -> Bags:
        chosen = ranges(self._first_line, self._sizes[2], self._num_lines)
        shift = torch.repeat_interleave(starts(self.edges_per_graph).int(), self._sizes[2], output_size=self._num_lines)
        start, start_t = (starts(self.degree[end] - 1) for end in (self.src, self.dst))
        return Bags(self.packed.line[chosen] + shift, start, self.packed.line_t[chosen] + shift, start_t)
