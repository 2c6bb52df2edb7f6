"""The message networks of a block on a GPU: all of them side by side, in few launches forwards and backwards.

It computes what grover_block.pass_messages computes (a test holds them together), for ReLU without dropout. Left to
autograd, every network that ends before the others costs a slice, whose way back fills and adds a tensor of all
networks. Under autocast messages and products are in its type; what is summed over networks and hops is in that of x.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sam_bench.models.molecules.bags import bag_sum

_mask = torch.ops.aten.threshold_backward.grad_input
Differentiable = Callable[[Tensor, Sequence[Tensor]], Tensor]


class _MessagesTogether(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bags: tuple, hops: list[int], slowly: Differentiable, *matrices: Tensor) -> Tensor:
        device = x.device.type
        message_type = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        order = sorted(range(len(hops)), key=lambda i: -hops[i])  # those that are still running come first
        weights = torch.stack([matrices[i] for i in order]).to(message_type)
        narrow = x.to(message_type)
        message = narrow.expand(len(hops), *x.shape)
        summed = bag_sum(narrow, bags).expand(len(hops), *x.shape)
        done: list[Tensor] = []
        kept: list[tuple[Tensor, Tensor]] = []
        for hop in range(max(hops) + 1):
            running = sum(h > hop for h in hops)
            done = [*message[running:].unbind(0), *done]
            if not running:
                break
            summed = _side_by_side(message[:running], bags) if hop else summed[:running]
            product = torch.baddbmm(narrow.expand(running, *x.shape), summed, weights[:running].transpose(1, 2))
            message = product.relu_()
            kept.append((message, summed))
        ctx.save_for_backward(x, *matrices)
        ctx.bags, ctx.order, ctx.weights, ctx.kept, ctx.slowly = bags, order, weights, kept, slowly
        place = {network: i for i, network in enumerate(order)}
        return torch.stack([done[place[i]] for i in range(len(hops))])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *matrices = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate this gradient: let autograd make it
            out = ctx.slowly(x, matrices)
            grad_x, *own = torch.autograd.grad(
                out, [x, *matrices], grad.to(out.dtype), create_graph=True, allow_unused=True, materialize_grads=True
            )
            return grad_x, None, None, None, *own
        grad_x, grad_weights = _gradients(ctx, grad, x.dtype)
        ctx.kept = None
        # Tensors of their own, in one launch: autograd would copy each part of a larger one by itself.
        own = [torch.empty_like(matrix) for matrix in matrices]
        torch._foreach_copy_([own[i] for i in ctx.order], list(grad_weights.unbind(0)))
        return grad_x, None, None, None, *own


def _gradients(ctx: Any, grad: Tensor, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """Those of x (N, d) and of the matrices (k, d, d), in the order in which the networks end, the last one first."""
    index, start, index_t, start_t = ctx.bags
    back = index_t, start_t, index, start
    flow = torch.stack([grad[i] for i in ctx.order]).to(ctx.weights.dtype)
    without_hop = flow[len(ctx.kept[0][0]) if ctx.kept else 0 :]
    # What flows into x at each hop of each network: written side by side, added up at the end.
    into_x = flow.new_empty(sum(len(message) for message, _ in ctx.kept) + len(without_hop), *flow.shape[1:])
    into_x[: len(without_hop)] = without_hop
    grad_weights, begin, upstream = torch.zeros_like(ctx.weights, dtype=wide), len(without_hop), None
    for hop, (message, summed) in reversed(list(enumerate(ctx.kept))):
        running = len(message)
        flowing = into_x[begin : begin + running]
        begin += running
        _mask(flow[:running], message, 0, grad_input=flowing)
        _add_products(grad_weights[:running], flowing.transpose(1, 2), summed)
        upstream = torch.bmm(flowing, ctx.weights[:running])
        if hop:
            flow[:running] = _side_by_side(upstream, back)
    grad_x = into_x.sum(0, dtype=wide)
    if upstream is not None:  # all networks share the sum over neighbours of their first hop
        grad_x += bag_sum(upstream.sum(0, dtype=wide), back)
    return grad_x, grad_weights


def _side_by_side(message: Tensor, bags: tuple) -> Tensor:
    """Sums over neighbours of k networks, (k, N, d) -> (k, N, d): one sum over rows of k * d numbers."""
    networks, rows, hidden = message.shape
    wide = message.transpose(0, 1).reshape(rows, networks * hidden)
    return bag_sum(wide, bags).view(rows, networks, hidden).transpose(0, 1)


def _add_products(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total` += a @ b, batch by batch; products in a narrower type are added to a sum in a wider one."""
    if total.dtype == a.dtype:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)


def messages_together(
    x: Tensor, matrices: Sequence[Tensor], bags: tuple, hops: list[int], slowly: Differentiable
) -> Tensor:
    """Message networks side by side: x (N, d), k matrices (d, d) -> (k, N, d); network i takes hops[i] hops.

    `slowly(x, matrices)` computes the same by operations that autograd knows, for second derivatives.
    """
    return _MessagesTogether.apply(x, bags, hops, slowly, *matrices)
