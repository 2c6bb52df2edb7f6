"""Sums over neighbours whose gradient is again a sum over neighbours: no scatter, one fixed order, any device."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class _BagSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, start: Tensor, index_t: Tensor, start_t: Tensor) -> Tensor:
        ctx.save_for_backward(index_t, start_t)
        return embedding_bag(index, x, start, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        index_t, start_t = ctx.saved_tensors
        return embedding_bag(index_t, grad.contiguous(), start_t, mode="sum"), None, None, None, None


def bag_sum(x: Tensor, bags: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Row r of the result is the sum of the rows index[start[r]:start[r+1]] of x: (columns, d) -> (rows, d).

    bags are (index, start) of the relation and of its transpose; a batch makes them.
    """
    index, start, index_t, start_t = bags
    if not len(index):
        return x.new_zeros(len(start), x.shape[1])
    return _BagSum.apply(x, index, start, index_t, start_t)


def mean_of_atoms(x: Tensor, batch: Any) -> Tensor:
    """The mean over the atoms of each molecule of a batch: (A, d) -> (n, d)."""
    return bag_sum(x, batch.graph_bags) / batch.atoms_per_graph[:, None]


def repeat_bags(bags: tuple[Tensor, Tensor, Tensor, Tensor], copies: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bags of `copies` disjoint copies of a square relation, for x of shape (copies * rows, d)."""
    index, start, index_t, start_t = bags
    copy = torch.arange(copies, dtype=index.dtype, device=index.device)[:, None]
    rows, entries = len(start), len(index)
    return (
        (index + copy * rows).view(-1),
        (start + copy * entries).view(-1),
        (index_t + copy * rows).view(-1),
        (start_t + copy * entries).view(-1),
    )


def at_least_single(x: Tensor) -> Tensor:
    """x in float32, or unchanged if its type is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
