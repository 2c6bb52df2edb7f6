"""GINE (Hu et al. 2020, arXiv 1905.12265): graph isomorphism network with bonds, made of torch_geometric's layers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GINEConv

from sam_bench.models.molecules.pyg import ATOM_CATEGORIES, BOND_CATEGORIES, Encoder, pool_of


def mlp(width: int) -> nn.Sequential:
    """The network inside a GIN layer: linear to twice the width, batch norm, ReLU, linear back."""
    wide = 2 * width
    return nn.Sequential(nn.Linear(width, wide), nn.BatchNorm1d(wide), nn.ReLU(), nn.Linear(wide, width))


class Gine(nn.Module):
    """Layers of GINEConv and batch norm with residuals, pool, linear: (n, num_outputs).

    pool is mean, sum or max over the atoms of a molecule. Raises UsageError for anything else.
    """

    def __init__(
        self, num_outputs: int, inputs: dict[str, int], hidden: int = 128, layers: int = 4, dropout: float = 0.0,
        pool: str = "mean",
    ):  # fmt: skip
        super().__init__()
        self.pool = pool_of(pool)
        self.atoms = Encoder(inputs["atom_features"], hidden, ATOM_CATEGORIES)
        self.bonds = nn.ModuleList([Encoder(inputs["bond_features"], hidden, BOND_CATEGORIES) for _ in range(layers)])
        self.layers = nn.ModuleList([GINEConv(mlp(hidden), train_eps=True) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(hidden) for _ in range(layers)])
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, num_outputs)

    def forward(self, batch: Any) -> Tensor:
        """A molecule batch -> (n, num_outputs)."""
        x = self.atoms(batch.x)
        for i, (layer, norm, bonds) in enumerate(zip(self.layers, self.norms, self.bonds, strict=True)):
            y = norm(layer(x, batch.edge_index, bonds(batch.edge_attr)))
            x = x + self.dropout(torch.relu(y) if i + 1 < len(self.layers) else y)
        return self.out(self.pool(x, batch.batch, size=batch.num_graphs))
