"""Rows that belong to no molecule, so that batches of different sizes share a few shapes.

For bf16 the CPU library compiles a kernel for every new shape. The number of rows changes at almost every step, and
compiling took several times as long as the products. Padding rows are atoms and edges without neighbours that belong to
no molecule: no prediction reads them, and their gradient is exactly zero.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def pays(device: torch.device) -> bool:
    """Whether padding pays: for bf16 products on a CPU, where each shape is compiled."""
    return device.type == "cpu" and torch.is_autocast_enabled("cpu")


def rounded(rows: int) -> int:
    """Round up to one of 16 sizes per power of two, at least 32 apart: 3 % more rows on average."""
    step = max(32, 1 << max(0, rows.bit_length() - 5))
    return -(-rows // step) * step


class PaddedBatch:
    """What GROVER reads of a molecule batch, with padded atoms and edges."""

    def __init__(self, batch: Any, readout: str):
        self.num_graphs, self.descriptors = batch.num_graphs, batch.descriptors
        self.atoms_per_graph = batch.atoms_per_graph
        atoms, edges = rounded(len(batch.x)), rounded(len(batch.edge_attr))
        self.x = pad(batch.x, (0, 0, 0, atoms - len(batch.x)))
        self.edge_attr = pad(batch.edge_attr, (0, 0, 0, edges - len(batch.edge_attr)))
        self.atom_bags = widen(batch.atom_bags, atoms, atoms)
        self.line_bags = widen(batch.line_bags, edges, edges)
        self.in_bags = widen(batch.in_bags, atoms, edges)
        self.out_bags = widen(batch.out_bags, edges, atoms)
        if readout == "mean":
            self.graph_bags = widen(batch.graph_bags, batch.num_graphs, atoms)
        else:
            self.dense_bags, self.dense_mask = widen(batch.dense_bags, 0, atoms), batch.dense_mask


def widen(bags: tuple, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The relation with empty bags added at its end: at least `rows` results, and sums over at least `columns` rows."""
    index, start, index_t, start_t = bags
    return (
        index,
        pad(start, (0, max(0, rows - len(start))), value=len(index)),
        index_t,
        pad(start_t, (0, max(0, columns - len(start_t))), value=len(index_t)),
    )
