"""Models of torch_geometric on molecules; any of them needs only a YAML."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import global_max_pool

from sam_bench.errors import UsageError
from sam_bench.models.molecules.bags import at_least_single, bag_sum, mean_of_atoms
from sam_bench.options.model import Gine
from sam_bench.options.rules import check_one

# Categories of OGB's integer features (Hu et al. 2020, arXiv 2005.00687), atoms and bonds.
ATOM_CATEGORIES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
BOND_CATEGORIES = (5, 6, 2)


class Encoder(nn.Module):
    """Atom or bond features to vectors: a linear layer, or for OGB's integers one embedding per column, summed.

    The sum of embeddings is one product of matrices: rows of zeros with a one for each category, times all embeddings.
    One lookup per column instead is nine launches of a GPU for atoms, and 36 more for their gradients.
    """

    first: Tensor

    def __init__(self, columns: int, width: int, categories: tuple[int, ...]):
        super().__init__()
        self.linear = None if columns == len(categories) else nn.Linear(columns, width)
        if self.linear is None:
            self.embeddings = nn.Parameter(torch.randn(sum(categories), width))
            first = torch.tensor((0, *categories[:-1])).cumsum(0)
            self.register_buffer("first", first, persistent=False)  # (columns,), where the rows of a column begin

    def forward(self, features: Tensor) -> Tensor:
        """(rows, columns) -> (rows, width)."""
        if self.linear is not None:
            return self.linear(features)
        chosen = self.embeddings.new_zeros(len(features), len(self.embeddings))
        return chosen.scatter_(1, features + self.first, 1.0) @ self.embeddings


def pool_sum(x: Tensor, batch: Any) -> Tensor:
    """The sum over the atoms of each molecule: (A, d) -> (n, d)."""
    return bag_sum(at_least_single(x), batch.graph_bags)


def pool_mean(x: Tensor, batch: Any) -> Tensor:
    """The mean over the atoms of each molecule: (A, d) -> (n, d)."""
    return mean_of_atoms(at_least_single(x), batch)


def pool_max(x: Tensor, batch: Any) -> Tensor:
    """The maximum over the atoms of each molecule: (A, d) -> (n, d)."""
    return global_max_pool(x, batch.batch, size=batch.num_graphs)


POOLS: dict[str, Callable[[Tensor, Any], Tensor]] = {"mean": pool_mean, "sum": pool_sum, "max": pool_max}


def pool_of(name: str) -> Callable[[Tensor, Any], Tensor]:
    """The pooling function of a name; raises UsageError for an unknown one."""
    check_one(Gine, "pool", name, "model")
    return POOLS[name]


class GraphModel(nn.Module):
    """An unmodified torch_geometric model: encode, net, pool, linear: (n, num_outputs).

    net is a partial of a torch_geometric class (`_partial_: true` in the YAML). It gets in_channels, and edge_dim if it
    takes one, both `hidden`. It is called with x, edge_index, edge_attr, batch and batch_size, as far as its forward
    takes them. pool null is for a net that pools itself: it gets out_channels and predicts. Raises UsageError for an
    unknown pool and for a net that is not a partial.
    """

    def __init__(
        self, num_outputs: int, inputs: dict[str, int], net: Callable[..., nn.Module], hidden: int, pool: str | None
    ):
        super().__init__()
        if not isinstance(net, partial):
            raise UsageError("model.net must be a torch_geometric class with _partial_: true, for its sizes to be set.")
        self.pool = None if pool is None else pool_of(pool)
        takes = inspect.signature(net.func).parameters
        reads_bonds = "edge_dim" in takes or getattr(net.func, "supports_edge_attr", False)
        sizes = {"in_channels": hidden}
        sizes |= {"edge_dim": hidden} if reads_bonds else {}
        sizes |= {"out_channels": num_outputs} if pool is None else {}
        self.net = net(**{name: size for name, size in sizes.items() if name not in net.keywords})
        self.called_with = frozenset(inspect.signature(self.net.forward).parameters)
        self.atoms = Encoder(inputs["atom_features"], hidden, ATOM_CATEGORIES)
        self.bonds = Encoder(inputs["bond_features"], hidden, BOND_CATEGORIES) if reads_bonds else None
        self.out = None if pool is None else nn.Linear(self.net.out_channels, num_outputs)

    def forward(self, batch: Any) -> Tensor:
        """A molecule batch -> (n, num_outputs)."""
        given = {"edge_index": batch.edge_index, "batch": batch.batch, "batch_size": batch.num_graphs}
        if self.bonds is not None:
            given["edge_attr"] = self.bonds(batch.edge_attr)
        y = self.net(self.atoms(batch.x), **{name: value for name, value in given.items() if name in self.called_with})
        if self.pool is None or self.out is None:  # it has both or neither
            return y
        return self.out(self.pool(y, batch))
