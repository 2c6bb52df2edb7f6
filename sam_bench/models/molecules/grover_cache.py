"""The message networks of a block on a CPU: one network at a time, so that its rows stay in the core's cache.

It computes the same as grover_block.pass_messages and a linear layer (a test compares them), for ReLU without dropout.
There every operation runs over the rows of all networks, 8 MB at batch 32, and waits for memory. Here the rows of one
network take 0.7 MB, every product is written where it is needed, and the backward pass computes sums over neighbours
again instead of storing them. Under autocast messages and products are bf16; sums over networks and hops are float32.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sam_bench.models.molecules.bags import bag_sum

_mask = torch.ops.aten.threshold_backward.grad_input


class _ProjectInCache(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bags: tuple, hops: list[int], weight: Tensor, bias: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        index, start = bags[:2]
        message_type = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        narrow, hop_weights, projections = _in_type(message_type, x, weights, weight)
        first = embedding_bag(index, narrow, start, mode="sum")
        out = [bias.new_empty(len(x), len(weights) // 3 * x.shape[1]) for _ in range(3)]
        kept: list[list[Tensor]] = []
        for i, place in enumerate(place for part in out for place in part.split(x.shape[1], dim=1)):
            message, messages = narrow, []
            for hop in range(hops[i]):
                summed = embedding_bag(index, message, start, mode="sum") if hop else first
                message = torch.mm(summed, hop_weights[i].T).add_(narrow).relu_()
                messages.append(message)
            part = 3 * i // len(weights)
            _project(projections[part], message, bias[part], place)
            kept.append(messages)
        ctx.save_for_backward(x, weight, *weights)
        ctx.bags, ctx.hops, ctx.kept, ctx.first = bags, hops, kept, first
        return tuple(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient will be differentiated, so autograd must compute it
            return _differentiable_gradient(x, weight, weights, ctx.bags, ctx.hops, grads)
        index, start, index_t, start_t = ctx.bags
        narrow, hop_weights, projections = _in_type(ctx.first.dtype, x, weights, weight)
        grad_x, grad_first = (torch.zeros_like(x, dtype=weight.dtype) for _ in range(2))
        grad_weight, *grad_weights = (torch.zeros_like(w) for w in (weight, *weights))
        flow, upstream = torch.empty_like(narrow), torch.empty_like(narrow)  # overwritten by every network
        given = [grad for part in grads for grad in part.to(narrow.dtype).split(x.shape[1], dim=1)]
        for i, (grad, messages) in enumerate(zip(given, ctx.kept, strict=True)):
            part = 3 * i // len(weights)
            _add_product(grad_weight[part], grad.T, messages[-1] if messages else narrow)
            if not messages:
                _add_product(grad_x, grad, projections[part])
                continue
            flowing = torch.mm(grad, projections[part], out=flow)
            for hop in range(len(messages) - 1, 0, -1):
                grad_x += _mask(flowing, messages[hop], 0, grad_input=flowing)
                _add_product(grad_weights[i], flowing.T, embedding_bag(index, messages[hop - 1], start, mode="sum"))
                torch.mm(flowing, hop_weights[i], out=upstream)
                flowing = embedding_bag(index_t, upstream, start_t, mode="sum")
            grad_x += _mask(flowing, messages[0], 0, grad_input=flowing)
            _add_product(grad_weights[i], flowing.T, ctx.first)
            _add_product(grad_first, flowing, hop_weights[i])
        ctx.kept = ctx.first = None
        grad_x += embedding_bag(index_t, grad_first, start_t, mode="sum")
        return grad_x.to(x.dtype), None, None, grad_weight, _bias_gradient(grads, x.shape[1]), *grad_weights


def _in_type(
    dtype: torch.dtype, x: Tensor, weights: Sequence[Tensor], weight: Tensor
) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]:
    """The rows, the networks' matrices and the three projections, in the type of the messages."""
    if weight.dtype == dtype:
        return x.to(dtype), weights, weight.unbind(0)
    return x.to(dtype), torch.stack(list(weights)).to(dtype).unbind(0), weight.to(dtype).unbind(0)


def _project(projection: Tensor, message: Tensor, bias: Tensor, out: Tensor) -> None:
    """`out` (N, d), in the type of `bias`, becomes message @ projection.T + bias."""
    if message.dtype == bias.dtype:
        torch.addmm(bias, message, projection.T, out=out)
    else:
        torch.add(message @ projection.T, bias, out=out)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total` += a @ b; a bf16 product is added to a float32 sum."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _bias_gradient(grads: Sequence[Tensor], hidden: int) -> Tensor:
    return torch.stack([grad.sum(0).view(-1, hidden).sum(0) for grad in grads])


def _differentiable_gradient(
    x: Tensor, weight: Tensor, weights: Sequence[Tensor], bags: tuple, hops: list[int], grads: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradient that `backward` computes, by autograd from plain operations: slower, twice differentiable."""
    out = []
    for i, w in enumerate(weights):
        message = x
        for _ in range(hops[i]):
            message = torch.relu(x + bag_sum(message, bags) @ w.T)
        out.append(message @ weight[3 * i // len(weights)].T)
    inputs = [t for t in (x, weight, *weights) if t.requires_grad]
    found = iter(
        torch.autograd.grad(
            torch.cat(out, 1), inputs, torch.cat(grads, 1), create_graph=True, allow_unused=True, materialize_grads=True
        )
    )
    grad_x, grad_weight, *grad_weights = (next(found) if t.requires_grad else None for t in (x, weight, *weights))
    return grad_x, None, None, grad_weight, _bias_gradient(grads, x.shape[1]), *grad_weights


def project_in_cache(
    x: Tensor, weights: Sequence[Tensor], weight: Tensor, bias: Tensor, bags: tuple, hops: list[int]
) -> tuple[Tensor, ...]:
    """Messages, projected: x (N, d), k weights (d, d), weight (3, d, d), bias (3, d) -> 3 x (N, k/3 * d).

    The networks are k/3 queries, as many keys and as many values, side by side in the columns; network i takes hops[i]
    hops. The results have the type of `bias`, even if autocast changes the type of the messages.
    """
    return _ProjectInCache.apply(x, bags, hops, weight, bias, *weights)
