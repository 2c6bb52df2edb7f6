"""The message networks and the attention of a block in C++ (grover_cpp/): model.kernels=native.

It computes what grover_cache.project_in_cache and grover_block.attend compute (a test compares them), for ReLU without
dropout, in float32, on one thread of a CPU. All that a pass needs lies in one buffer of some 30 MB. The next pass uses
it again, so that the system does not have to clear new memory for every pass.
"""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam_bench.errors import UsageError
from sam_bench.models.native import library

SOURCE = Path(__file__).with_name("grover_cpp") / "block.cpp"
Plain = Callable[[Tensor, Sequence[Tensor], Tensor, Tensor], Tensor]
_spare: list[Tensor] = []


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "hidden", "heads", "messages")]


class _Relation(ctypes.Structure):
    _fields_ = [("index", ctypes.c_void_p), ("start", ctypes.c_void_p), ("entries", ctypes.c_int64)]


def check(hidden: int, heads: int, dropout: float, activation: str) -> None:
    """Compile, or raise UsageError for what the C++ has no code for, and where there is no compiler."""
    if activation != "relu" or dropout:
        raise UsageError(
            f"model.kernels=native has code for activation=relu and dropout=0 only, not for {activation} and "
            f"{dropout:g}. Run with model.kernels=torch."
        )
    code = library(SOURCE)
    if heads > code.most_heads() or hidden // heads > code.most_width():
        raise UsageError(
            f"model.kernels=native has code for {code.most_heads()} heads of a width of {code.most_width()} at most. "
            "Run with model.kernels=torch."
        )


def fits(x: Tensor) -> bool:
    """Whether the C++ can compute this pass: float32 on a CPU."""
    return x.device.type == "cpu" and x.dtype == torch.float32


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bags: tuple, hops: list[int], plain: Plain | None, weight: Tensor, bias: Tensor,
        *matrices: Tensor,
    ) -> Tensor:  # fmt: skip
        heads = len(matrices) // 3
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        matrices = tuple(matrix.contiguous() for matrix in matrices)
        shape = _Shape(*x.shape, heads, sum(hops))
        buffer = _buffer(shape)
        out = x.new_empty(len(x), heads * x.shape[1])
        given = _address(x), _addresses(matrices), _address(weight), _address(bias), _address(buffer), _address(out)
        library(SOURCE).forward(ctypes.byref(shape), _integers(hops), ctypes.byref(_relation(bags[:2])), *given)
        if plain is not None:  # there will be a backward pass
            ctx.save_for_backward(x, weight, bias, *matrices)
            ctx.bags, ctx.hops, ctx.plain, ctx.shape, ctx.buffer = bags, hops, plain, shape, buffer
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, *matrices = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient will be differentiated, so autograd must compute it
            return _differentiable_gradient(ctx, grad)
        if ctx.buffer is None:
            raise RuntimeError("model.kernels=native: the values of this pass were used up by its first backward().")
        grad = grad.contiguous()
        found = [torch.empty_like(tensor) for tensor in (x, weight, bias, *matrices)]
        grad_x, grad_weight, grad_bias, *own = found
        given = _addresses(matrices), _address(weight), _address(grad), _address(ctx.buffer)
        made = _address(grad_x), _addresses(own), _address(grad_weight), _address(grad_bias)
        there, back = _relation(ctx.bags[:2]), _relation(ctx.bags[2:])
        relations = ctypes.byref(there), ctypes.byref(back)
        library(SOURCE).backward(ctypes.byref(ctx.shape), _integers(ctx.hops), *relations, *given, *made)
        _spare.append(ctx.buffer)
        ctx.buffer = None
        return grad_x, None, None, None, grad_weight, grad_bias, *own


def _differentiable_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient that `backward` computes, by autograd from plain operations: slower, twice differentiable."""
    x, weight, bias, *matrices = ctx.saved_tensors
    out = ctx.plain(x, matrices, weight, bias)
    inputs = [t for t in (x, weight, bias, *matrices) if t.requires_grad]
    made = torch.autograd.grad(out, inputs, grad, create_graph=True, allow_unused=True, materialize_grads=True)
    found = iter(made)
    grad_x, *others = (next(found) if t.requires_grad else None for t in (x, weight, bias, *matrices))
    return grad_x, None, None, None, *others


def _buffer(shape: _Shape) -> Tensor:
    """The smallest of those not in use that is large enough; else a new one, with room for somewhat larger passes."""
    size = library(SOURCE).floats
    size.restype = ctypes.c_int64
    needed = size(ctypes.byref(shape))
    _spare.sort(key=len)
    for place, buffer in enumerate(_spare):
        if len(buffer) >= needed:
            return _spare.pop(place)
    if _spare:
        _spare.pop()  # the new one takes its place
    return torch.empty(needed + needed // 4)


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _addresses(tensors: Sequence[Tensor]) -> ctypes.Array:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def _integers(numbers: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _relation(bags: Sequence[Tensor]) -> _Relation:
    index, start = bags
    return _Relation(index.data_ptr(), start.data_ptr(), len(index))


def attended(
    x: Tensor, matrices: Sequence[Tensor], weight: Tensor, bias: Tensor, bags: tuple, hops: list[int], plain: Plain
) -> Tensor:
    """Messages, projected, and attention over them: x (N, d), k matrices (d, d), weight (3, d, d), bias (3, d) ->
    (N, k/3 * d), columns (head, slice, width).

    The networks are k/3 queries, as many keys and as many values; network i takes hops[i] hops. bags are int32 and hold
    the relation and its transpose. plain(x, matrices, weight, bias) computes the same, for second derivatives.
    """
    if any(part.dtype != torch.int32 or not part.is_contiguous() for part in bags):
        raise TypeError("the bags of a relation are contiguous int32 tensors")  # the C++ would read something else
    return _Attended.apply(x, bags, hops, plain if torch.is_grad_enabled() else None, weight, bias, *matrices)
