"""GROVER (Rong et al. 2020, arXiv 2007.02835): a graph transformer whose queries, keys and values are message passing.

Two branches read a molecule: one passes messages between atoms, the other between directed bonds. In each block every
attention head has three message-passing networks, and the attention of an atom (bond) is over the heads' messages.
Both branches end in atom vectors. Each branch averages them over the molecule and predicts on its own; the loss
penalises the difference of the two predictions.
"""

import warnings
from functools import reduce
from itertools import combinations
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_bench.errors import UsageError
from sam_bench.models.molecules import grover_native
from sam_bench.models.molecules.bags import at_least_single, bag_sum, mean_of_atoms
from sam_bench.models.molecules.grover_block import Activation, Block, linear, matrix
from sam_bench.models.molecules.grover_pretrained import load_pretrained
from sam_bench.models.molecules.padded import PaddedBatch, pays
from sam_bench.options.model import Grover as Options
from sam_bench.options.rules import check_one


class Branch(nn.Module):
    """One view of the molecule: embed, transform, sum into atoms, feed forward (section 4.1, long-range residual)."""

    def __init__(
        self,
        inputs: int,
        atom_features: int,
        hidden: int,
        heads: int,
        depth: int,
        blocks: int,
        dropout: float,
        activation: str,
        kernels: str = "torch",
    ):
        super().__init__()
        self.embed = matrix(hidden, inputs)
        self.embed_activation = Activation(activation)
        self.embed_norm = nn.LayerNorm(hidden)
        self.blocks = nn.ModuleList([Block(hidden, heads, depth, dropout, activation, kernels) for _ in range(blocks)])
        self.wide = linear(atom_features + hidden, 4 * hidden)
        self.wide_activation = Activation(activation)
        self.narrow = linear(4 * hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = dropout

    def forward(self, embedded: Tensor, neighbours: tuple, into_atoms: tuple, atoms: Tensor) -> Tensor:
        """embedded (N, hidden), before its activation -> (A, hidden); atoms (A, atom features)."""
        x = functional.dropout(self.embed_norm(self.embed_activation(embedded)), self.dropout, self.training)
        for block in self.blocks:
            x = block(x, neighbours)
        summed = bag_sum(x, into_atoms)
        # The features need no gradient; their part of the product is separate, so that none is computed.
        of_features, of_summed = self.wide.weight.split([atoms.shape[1], summed.shape[1]], dim=1)
        wide = functional.linear(atoms, of_features, self.wide.bias)
        wide = self.wide_activation(wide + functional.linear(summed, of_summed))
        y = self.narrow(functional.dropout(wide, self.dropout, self.training))
        return functional.dropout(self.norm(y), self.dropout, self.training)


class SelfAttentiveReadout(nn.Module):
    """`out` weighted sums of a molecule's atoms: softmax(W2 tanh(W1 X^T)) X (section 4.4, after Lin et al. 2017)."""

    def __init__(self, hidden: int, attention_hidden: int, attention_out: int):
        super().__init__()
        self.first = matrix(attention_hidden, hidden)
        self.second = matrix(attention_out, attention_hidden)

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        """x (A, hidden) -> (n, out * hidden)."""
        dense = bag_sum(x, batch.dense_bags).view(batch.num_graphs, -1, x.shape[1])
        scores = functional.linear(torch.tanh(functional.linear(dense, self.first)), self.second)
        scores = scores.masked_fill(~batch.dense_mask[:, :, None], -torch.inf)
        return (scores.softmax(1).transpose(1, 2).to(dense.dtype) @ dense).flatten(1)


class Grover(nn.Module):
    """GROVER for property prediction: (2, n, num_outputs), one prediction of the atom and one of the bond branch.

    inputs are the task's: atom_features, bond_features, descriptors. depth counts as in the paper's code: depth - 1
    hops; in training the number is drawn around it. readout is "mean" or "self_attention". disagreement weighs the
    squared distance of the two predictions in the loss. pretrained is the path of weights that GROVER's authors
    published: both branches start from them, the prediction heads do not. init "published" sets every one-dimensional
    parameter to zero, the gains of the layer norms too, as GROVER's code does: see `zero_vectors`. kernels "native"
    runs the blocks in C++ where the weights are float32 and on a CPU (grover_native.py). Raises UsageError for a hidden
    size that is not a multiple of the heads, for weights that are missing or of another architecture, and for kernels
    that have no code for this model or cannot be compiled.
    """

    bf16_from_hidden = 100  # on a CPU: 0.83 times as fast as fp32 with 32, the same with 64, 1.2 with 100

    def __init__(
        self,
        num_outputs: int,
        inputs: dict[str, int],
        hidden: int = 100,
        depth: int = 3,
        heads: int = 4,
        blocks: int = 1,
        dropout: float = 0.0,
        activation: str = "relu",
        readout: str = "mean",
        attention_hidden: int = 4,
        attention_out: int = 128,
        head_hidden: int = 100,
        head_layers: int = 2,
        disagreement: float = 0.1,
        pretrained: str | None = None,
        init: str = "library",
        kernels: str = "torch",
    ):
        super().__init__()
        check(hidden, heads, readout=readout, init=init, kernels=kernels)
        if kernels == "native":
            grover_native.check(hidden, heads, dropout, activation)
        atoms, bonds = inputs["atom_features"], inputs["bond_features"]
        sizes: dict[str, Any] = dict(hidden=hidden, heads=heads, depth=depth, blocks=blocks, dropout=dropout,
                                     activation=activation)  # fmt: skip
        self.atom_branch = Branch(atoms, atoms, **sizes, kernels=kernels)
        self.bond_branch = Branch(atoms + bonds, atoms, **sizes, kernels=kernels)
        attend = readout == "self_attention"
        self.readout = SelfAttentiveReadout(hidden, attention_hidden, attention_out) if attend else None
        width = hidden * (attention_out if attend else 1) + inputs["descriptors"]
        self.heads = nn.ModuleList(
            [prediction_head(width, head_hidden, head_layers, num_outputs, dropout, activation) for _ in range(2)]
        )
        self.disagreement = disagreement
        if init == "published":
            zero_vectors(self, descriptors=bool(inputs["descriptors"]), pretrained=pretrained is not None)
        if pretrained is not None:
            load_pretrained(self, pretrained, sizes)

    def forward(self, batch: Any) -> Tensor:
        """A molecule batch -> (2, n, num_outputs)."""
        if pays(batch.x.device):
            batch = PaddedBatch(batch, "mean" if self.readout is None else "self_attention")
        atoms = batch.x
        from_atoms = functional.linear(atoms, self.atom_branch.embed)
        atom_part, bond_part = self.bond_branch.embed.split([atoms.shape[1], batch.edge_attr.shape[1]], dim=1)
        # The input of a bond is (its source atom, itself): embed the atoms once, then copy them to their bonds.
        from_bonds = bag_sum(functional.linear(atoms, atom_part), batch.out_bags)
        from_bonds = from_bonds + functional.linear(batch.edge_attr, bond_part)
        views = [
            self.atom_branch(from_atoms, batch.atom_bags, batch.atom_bags, atoms),
            self.bond_branch(from_bonds, batch.line_bags, batch.in_bags, atoms),
        ]
        outputs = [head(self._read(x, batch)) for head, x in zip(self.heads, views, strict=True)]
        return at_least_single(torch.stack(outputs))

    def _read(self, x: Tensor, batch: Any) -> Tensor:
        molecule = mean_of_atoms(x, batch) if self.readout is None else self.readout(x, batch)
        return molecule if batch.descriptors is None else torch.cat([molecule, batch.descriptors], dim=1)

    def penalty(self, output: Tensor) -> Tensor:
        """The penalty on the heads' disagreement: (heads, n, num_outputs) -> (n, num_outputs)."""
        return self.disagreement * reduce(add, ((a - b).square() for a, b in combinations(output, 2)))


def zero_vectors(model: nn.Module, *, descriptors: bool, pretrained: bool) -> None:
    """Set every one-dimensional parameter to zero, like `initialize_weights` in GROVER's published code.

    That includes the gains of the layer norms, so both branches give zero for every molecule. Without descriptors and
    published weights only the biases of the two outputs then ever get a gradient: a warning says so.
    """
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.zeros_(parameter)
    if not (descriptors or pretrained):
        warnings.warn(
            "model.init=published without descriptors and without published weights: only the biases of the two "
            "outputs get a gradient, so the network predicts one number for all molecules (docs/grover.md)",
            stacklevel=2,
        )


def check(hidden: int, heads: int, **words: str) -> None:
    """Raise UsageError for sizes that do not go together, and for an option that is none of its words."""
    if hidden % heads:
        raise UsageError(f"model.hidden={hidden} is not a multiple of model.heads={heads}.")
    for name, word in words.items():
        check_one(Options, name, word, "model")


def prediction_head(
    inputs: int, hidden: int, layers: int, outputs: int, dropout: float, activation: str
) -> nn.Sequential:
    """Dropout, linear, activation, ...: `layers` linear layers."""
    widths = [inputs, *[hidden] * (layers - 1), outputs]
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [Activation(activation)] if i else []
        parts += [nn.Dropout(dropout), linear(widths[i], widths[i + 1])]
    return nn.Sequential(*parts)
