"""The message networks of a block on a CPU: one network at a time, so that its rows stay in the core's cache.

It computes what grover_block.pass_messages and a linear layer compute (a test holds them together), for ReLU without
dropout. There every operation runs over the rows of all networks, 8 MB at batch 32, and waits for memory; here the same
rows take 0.7 MB, and sums over neighbours are taken again in the backward pass instead of being kept. Under autocast
messages and products are bf16; what is summed over networks and hops is float32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sam_bench.models.molecules.bags import bag_sum


class _ProjectInCache(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, weight: Tensor, bias: Tensor, bags: tuple, hops: list[int]
    ) -> tuple[Tensor, ...]:
        index, start = bags[:2]
        each = len(weights) // 3
        first = embedding_bag(index, x, start, mode="sum")
        out = [bias.new_empty(each, *x.shape) for _ in range(3)]
        kept: list[list[Tensor]] = []
        for i, w in enumerate(weights.unbind(0)):
            messages: list[Tensor] = []
            for _ in range(hops[i]):
                summed = embedding_bag(index, messages[-1], start, mode="sum") if messages else first
                messages.append(torch.addmm(x, summed, w.T).relu_())
            part, place = divmod(i, each)
            torch.add((messages[-1] if messages else x) @ weight[part].T, bias[part], out=out[part][place])
            kept.append(messages)
        ctx.save_for_backward(x, weights, weight, first)
        ctx.bags, ctx.hops, ctx.kept, ctx.wide = bags, hops, kept, bias.dtype
        return tuple(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, weight, first = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate this gradient: let autograd make it
            return _differentiable_gradient(x, weights, weight, ctx.bags, ctx.hops, grads)
        index, start, index_t, start_t = ctx.bags
        wide = [torch.zeros_like(t, dtype=ctx.wide) for t in (x, x, weights, weight)]
        grad_x, grad_first, grad_weights, grad_weight = wide
        for i, messages in enumerate(ctx.kept):
            part, place = divmod(i, len(weights) // 3)
            flow = grads[part][place].reshape(x.shape).to(x.dtype)
            grad_weight[part] += flow.T @ (messages[-1] if messages else x)
            flow = flow @ weight[part]
            for hop in range(len(messages) - 1, -1, -1):
                flow = torch.ops.aten.threshold_backward(flow, messages[hop], 0)
                grad_x += flow
                summed = embedding_bag(index, messages[hop - 1], start, mode="sum") if hop else first
                grad_weights[i] += flow.T @ summed
                flow = flow @ weights[i]
                if hop:
                    flow = embedding_bag(index_t, flow, start_t, mode="sum")
            target = grad_first if messages else grad_x
            target += flow
        ctx.kept = None
        grad_x += embedding_bag(index_t, grad_first, start_t, mode="sum")
        grad_bias = torch.stack([grad.reshape(-1, x.shape[1]).sum(0) for grad in grads])
        narrow = (g.to(t.dtype) for g, t in zip((grad_x, grad_weights, grad_weight), (x, weights, weight), strict=True))
        return *narrow, grad_bias, None, None


def _differentiable_gradient(
    x: Tensor, weights: Tensor, weight: Tensor, bags: tuple, hops: list[int], grads: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradient that `backward` computes, by autograd from plain operations: slower, twice differentiable."""
    out = []
    for i, w in enumerate(weights.unbind(0)):
        message = x
        for _ in range(hops[i]):
            message = torch.relu(x + bag_sum(message, bags) @ w.T)
        out.append(message @ weight[i // (len(weights) // 3)].T)
    given = torch.cat(grads)
    inputs = [t for t in (x, weights, weight) if t.requires_grad]
    found = iter(torch.autograd.grad(torch.stack(out), inputs, given, create_graph=True, materialize_grads=True))
    grad_x, grad_weights, grad_weight = (next(found) if t.requires_grad else None for t in (x, weights, weight))
    grad_bias = torch.stack([grad.reshape(-1, x.shape[1]).sum(0) for grad in grads])
    return grad_x, grad_weights, grad_weight, grad_bias, None, None


def project_in_cache(
    x: Tensor, weights: Tensor, weight: Tensor, bias: Tensor, bags: tuple, hops: list[int]
) -> tuple[Tensor, ...]:
    """Messages, projected: x (N, d), weights (k, d, d), weight (3, d, d), bias (3, d) -> 3 x (k/3, N, d).

    The networks are k/3 queries, as many keys and as many values; network i takes hops[i] hops. The results have the
    type of `bias`, whatever autocast makes of the messages.
    """
    if torch.is_autocast_enabled("cpu"):
        x, weights, weight = (t.to(torch.get_autocast_dtype("cpu")) for t in (x, weights, weight))
    return _ProjectInCache.apply(x, weights, weight, bias, bags, hops)
