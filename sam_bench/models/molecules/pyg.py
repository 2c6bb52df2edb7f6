"""Models of torch_geometric on molecules; any of them needs only a YAML."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import global_add_pool, global_max_pool, global_mean_pool

from sam_bench.errors import UsageError
from sam_bench.options.model import Gine
from sam_bench.options.rules import check_one

POOLS: dict[str, Callable] = {"mean": global_mean_pool, "sum": global_add_pool, "max": global_max_pool}
# Categories of OGB's integer features (Hu et al. 2020, arXiv 2005.00687), atoms and bonds.
ATOM_CATEGORIES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
BOND_CATEGORIES = (5, 6, 2)


class Encoder(nn.Module):
    """Atom or bond features to vectors: a linear layer, or for OGB's integers one embedding per column, summed."""

    def __init__(self, columns: int, width: int, categories: tuple[int, ...]):
        super().__init__()
        integers = columns == len(categories)
        self.embed = nn.ModuleList([nn.Embedding(size, width) for size in categories]) if integers else None
        self.linear = None if integers else nn.Linear(columns, width)

    def forward(self, features: Tensor) -> Tensor:
        """(rows, columns) -> (rows, width)."""
        if self.embed is None:
            assert self.linear is not None  # one of the two exists
            return self.linear(features)
        return sum(embed(column) for embed, column in zip(self.embed, features.unbind(1), strict=True))


def pool_of(name: str) -> Callable:
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
        return self.out(self.pool(y, batch.batch, size=batch.num_graphs))
