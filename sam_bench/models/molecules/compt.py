"""CoMPT (Chen et al. 2021, arXiv 2107.08773): a transformer whose keys are the bonds, damped by distance.

This is the second backbone of the GraphSAM experiments. The published code pads every molecule to the largest one of
the data set and forms a key for each pair of atoms. Here only bonds have their own keys; the key of every other pair is
one vector, the projected bias. Molecules are padded together with others of similar size, and padding does not change
the result. The update of the bonds, which the published code computes and never uses, is left out. docs/compt.md lists
all differences.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from sam_bench.errors import UsageError
from sam_bench.models.molecules.bags import at_least_single, bag_sum, mean_of_atoms
from sam_bench.models.molecules.recurrent import bidirectional
from sam_bench.options.model import Compt as Options
from sam_bench.options.rules import check_one


class LayerNorm(nn.Module):
    """gain * (x - mean) / (std + 1e-6) + shift with the unbiased standard deviation, as in the published code."""

    def __init__(self, width: int):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.shift


class ScaleNorm(nn.Module):
    """scale * x / ||x|| with one learned scale (Nguyen and Salazar 2019)."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.sqrt(width)))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.scale / x.norm(dim=-1, keepdim=True).clamp(min=1e-5))


class Layer(nn.Module):
    """Attention over the atoms of a molecule with bonds as keys, then a feed-forward layer."""

    def __init__(self, width: int, heads: int, feed_layers: int, dropout: float, norm: type[nn.Module], kernel: str):
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.damping = nn.Parameter(torch.tensor(0.1))
        self.feed = nn.ModuleList([nn.Linear(width, width) for _ in range(feed_layers)])
        self.norm, self.dropout = norm(width), nn.Dropout(dropout)

    def forward(self, x: Tensor, bonds: Tensor, no_bond: Tensor, batch: Any) -> Tensor:
        """x (A, width), bonds (E, width), no_bond (width,) -> (A, width)."""
        x = self.dropout(self.norm(x))
        first = x + self.dropout(self.norm(self._attend(x, bonds, no_bond, batch)))
        second = first
        for layer in self.feed:
            second = self.dropout(functional.mish(layer(second)))
        return x + first + self.dropout(self.norm(second))

    def _attend(self, x: Tensor, bonds: Tensor, no_bond: Tensor, batch: Any) -> Tensor:
        heads = self.heads
        width = x.shape[1] // heads
        query, value = at_least_single(self.query(x)), self.value(x)
        key, key_without = at_least_single(self.key(bonds)), at_least_single(self.key(no_bond))
        with_bond = (bag_sum(query, batch.out_bags) * key).view(-1, heads, width).sum(-1) / math.sqrt(width)
        without = (query * key_without).view(-1, heads, width).sum(-1) / math.sqrt(width)
        without, value = (bag_sum(rows, batch.block_bags) for rows in (without, value))
        y = torch.cat([self._attend_in(block, with_bond, without, value) for block in batch.blocks])
        return functional.mish(self.out(bag_sum(y, transposed(batch.block_bags))))

    def _attend_in(self, block: Any, with_bond: Tensor, without: Tensor, value: Tensor) -> Tensor:
        """The rows (k * largest, width) of one block of molecules.

        with_bond (E, heads) are the scores of bonds; without (rows, heads) is a row's score with every other atom.
        """
        k, longest, heads = len(block.molecules), block.largest, self.heads
        rows = slice(block.row, block.row + k * longest)
        scores = without[rows].view(k, longest, heads).permute(2, 0, 1)[..., None].expand(-1, -1, -1, longest)
        scores = scores.reshape(heads, -1).scatter(1, block.at.expand(heads, -1), with_bond[block.edges].T)
        scores = scores.view(heads, k, longest, longest)
        p = scores.masked_fill(~block.mask[:, None], -torch.inf).softmax(-1)
        # The published code adds the attention along both directions of a pair: equal values; the diagonal counts once.
        weight = (2 - torch.eye(longest, device=p.device)) * self._damp(block.distance)
        v = value[rows].view(k, longest, heads, -1).permute(2, 0, 1, 3)
        y = self.dropout(p * weight).to(value.dtype) @ v
        return y.permute(1, 2, 0, 3).reshape(k * longest, -1)

    def _damp(self, distance: Tensor) -> Tensor:
        """(k, longest, longest) in bonds, inf where there is no path -> weight of each pair."""
        distance = distance.to(self.damping.dtype)  # one number does not widen a tensor by itself
        apart = distance.isinf()
        damped = (self.damping * distance.masked_fill(apart, 0.0)).masked_fill(apart, torch.inf).neg()
        return damped.softmax(-1) if self.kernel == "softmax" else damped.exp()


def transposed(bags: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bags of the reversed relation."""
    index, start, index_t, start_t = bags
    return index_t, start_t, index, start


def dense(x: Tensor, batch: Any) -> Tensor:
    """(A, d) -> (n, longest, d), zero where there is no atom."""
    return bag_sum(x, batch.dense_bags).view(batch.num_graphs, batch.largest, -1)


class RecurrentReadout(nn.Module):
    """A bidirectional GRU over a molecule's atoms in their order, then the mean (the published "gru")."""

    def __init__(self, width: int):
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * width, width)
        self.shift = nn.Parameter(torch.empty(width).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width)))

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        """x (A, width) -> (A, width)."""
        atoms = dense(functional.mish(x + self.shift), batch).masked_fill(~batch.dense_mask[..., None], -torch.inf)
        state = atoms.max(1).values
        if x.is_cuda and (self.training or not torch.is_grad_enabled()):
            # cuDNN: its gradient exists in training mode only, and has none of its own. The batch has ordered the rows:
            # torch's pack_padded_sequence and its way back would each wait for the GPU.
            order, by_length = batch.in_time
            rows = PackedSequence(bag_sum(x, order), batch.at_each_time)
            y, _ = self.gru(rows, state[by_length].expand(2, -1, -1).contiguous())
            y = bag_sum(y.data, transposed(order))
        else:
            first = batch.first_atom if batch.host is None else batch.host.first_atom
            y = bidirectional(self.gru, x, state, first, batch.lengths)
        return functional.mish(self.out(y))


class Compt(nn.Module):
    """CoMPT for property prediction: (n, num_outputs); needs dataset.features=compt, which has the distances.

    kernel turns a distance into a weight: "exp" or "softmax" over a row. readout is "gru" (published) or "mean".
    scale_norm replaces LayerNorm by ScaleNorm. Raises UsageError for other features and impossible sizes.
    """

    def __init__(
        self,
        num_outputs: int,
        inputs: dict[str, int],
        hidden: int = 256,
        layers: int = 4,
        heads: int = 4,
        feed_layers: int = 1,
        head_layers: int = 2,
        kernel: str = "exp",
        readout: str = "gru",
        scale_norm: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        check(inputs, hidden, heads, kernel, readout)
        norm = ScaleNorm if scale_norm else LayerNorm
        self.atoms = nn.Linear(inputs["atom_features"], hidden)
        self.bonds = nn.Linear(inputs["bond_features"], hidden)
        self.position = nn.Embedding(inputs["max_atoms"], hidden)
        self.layers = nn.ModuleList([Layer(hidden, heads, feed_layers, dropout, norm, kernel) for _ in range(layers)])
        self.norm, self.dropout = norm(hidden), nn.Dropout(dropout)
        self.readout = RecurrentReadout(hidden) if readout == "gru" else None
        hidden_layers = [
            part
            for _ in range(head_layers - 1)
            for part in (nn.Linear(hidden, hidden), nn.Mish(), norm(hidden), nn.Dropout(dropout))
        ]
        self.head = nn.Sequential(*hidden_layers, nn.Linear(hidden, num_outputs))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, batch: Any) -> Tensor:
        """A molecule batch -> (n, num_outputs)."""
        scale = math.sqrt(self.bonds.out_features)
        x = self.dropout(self.atoms(batch.x)) * scale + self.dropout(self.position(batch.position))
        bonds = self.dropout(self.bonds(batch.edge_attr)) * scale
        for layer in self.layers:
            x = layer(x, bonds, self.bonds.bias * scale, batch)
        x = self.norm(x)
        if self.readout is not None:
            x = self.readout(x, batch)
        return at_least_single(self.head(mean_of_atoms(x, batch)))


def check(inputs: dict[str, int], hidden: int, heads: int, kernel: str, readout: str) -> None:
    """Raise UsageError for options that this model cannot have."""
    if not inputs.get("distances"):
        raise UsageError("CoMPT needs the distances between atoms: set dataset.features=compt.")
    if hidden % heads:
        raise UsageError(f"model.hidden={hidden} is not a multiple of model.heads={heads}.")
    check_one(Options, "kernel", kernel, "model")
    check_one(Options, "readout", readout, "model")
