"""GINE (Hu et al. 2020, arXiv 1905.12265): graph isomorphism network with bonds.

torch_geometric has the same layer (GINEConv), and a test holds ours against it. Ours sums over neighbours with the
index tensors of our batch: fewer launches on a GPU, and no scatter, whose order of summation may change there.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.models.batch_norm import BatchNorm1d
from sam_bench.models.molecules.bags import at_least_single, bag_sum
from sam_bench.models.molecules.pyg import ATOM_CATEGORIES, BOND_CATEGORIES, Encoder, pool_of


class GineLayer(nn.Module):
    """net((1 + eps) x + the sum over neighbours of relu(their x + bond)): x (A, width), bonds (E, width) -> (A, width).

    net is linear to twice the width, batch norm, ReLU, linear back. eps is learned and starts at 0.
    """

    def __init__(self, width: int):
        super().__init__()
        wide = 2 * width
        self.eps = nn.Parameter(torch.zeros(1))
        self.net = nn.Sequential(
            nn.Linear(width, wide), BatchNorm1d(wide), nn.ReLU(inplace=True), nn.Linear(wide, width)
        )

    def forward(self, x: Tensor, bonds: Tensor, batch: Any) -> Tensor:
        x = at_least_single(x)
        messages = (bag_sum(x, batch.out_bags) + bonds).relu_()
        return self.net(torch.addcmul(bag_sum(messages, batch.in_bags), x, 1 + self.eps))


class Gine(nn.Module):
    """Layers of GINE and batch norm with residuals, pool, linear: (n, num_outputs).

    pool is mean, sum or max over the atoms of a molecule. Raises UsageError for anything else.
    """

    def __init__(
        self, num_outputs: int, inputs: dict[str, int], hidden: int = 128, layers: int = 4, dropout: float = 0.0,
        pool: str = "mean",
    ):  # fmt: skip
        super().__init__()
        self.pool = pool_of(pool)
        self.atoms = Encoder(inputs["atom_features"], hidden, ATOM_CATEGORIES)
        self.bonds = Encoder(inputs["bond_features"], layers * hidden, BOND_CATEGORIES)  # those of all layers at once
        self.layers = nn.ModuleList([GineLayer(hidden) for _ in range(layers)])
        self.norms = nn.ModuleList([BatchNorm1d(hidden) for _ in range(layers)])
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, num_outputs)

    def forward(self, batch: Any) -> Tensor:
        """A molecule batch -> (n, num_outputs)."""
        x = self.atoms(batch.x)
        bonds = self.bonds(batch.edge_attr).chunk(len(self.layers), 1)
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            y = norm(layer(x, bonds[i], batch))
            x = x + self.dropout(y.relu() if i + 1 < len(self.layers) else y)
        return self.out(self.pool(x, batch))
