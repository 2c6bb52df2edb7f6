"""Vectors over all parameters, so that a line of code is a line of the paper.

A vector is a list of tensors, one per parameter, and not one flat tensor. So gradients are used as autograd made them,
without a copy (docs/optimizers/cost.md has the measurements).
"""

import math
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor

Scalar = float | Tensor
LEAST = 1e-3  # a smaller factor is multiplied into the tensors, which would grow as it shrinks


class Vector:
    """`factor * parts`; `parts` have the shapes of the parameters. Only `+=`, `*=` and `blend` change a vector.

    A product with a scalar only stores the factor, so `g + k * g_v` reads the tensors once. Scalars may be 0-dim
    tensors, so nothing here waits for the device.
    """

    __slots__ = ("_bound", "_norm", "factor", "parts")

    def __init__(self, parts: Iterable[Tensor], factor: Scalar = 1.0):
        self.parts, self.factor = list(parts), factor
        self._norm: Tensor | None = None
        self._bound: Scalar | None = None

    def dense(self) -> list[Tensor]:
        """The tensors with the factor multiplied in; new tensors unless the factor is 1."""
        return self.parts if self._is_plain() else list(torch._foreach_mul(self.parts, self.factor))

    def plain(self) -> "Vector":
        """The same vector with factor 1: itself if it has factor 1 already, and then it keeps its known norm."""
        return self if self._is_plain() else Vector(self.dense())

    def settled(self) -> "Vector":
        """The same vector in a form that a checkpoint restores bit for bit: its factor is a plain number or 1."""
        return self if isinstance(self.factor, float) and LEAST <= abs(self.factor) <= 1 / LEAST else self.plain()

    def _is_plain(self) -> bool:
        return isinstance(self.factor, float) and self.factor == 1.0

    # -- arithmetic ----------------------------------------------------------------------------------------------

    def __mul__(self, other: "Scalar | Vector | list[float] | list[Tensor]") -> "Vector":
        """Multiply by a scalar, by a vector element by element, or by a list with one scalar per tensor."""
        if isinstance(other, Vector):
            return Vector(torch._foreach_mul(self.dense(), other.dense()))
        if isinstance(other, list):
            return Vector(torch._foreach_mul(self.dense(), other))
        scalar = _scalar(other)
        product = Vector(self.parts, self.factor * scalar)
        if (bound := self.known_bound) is not None:
            product._bound = bound * _size(scalar)
        return product

    __rmul__ = __mul__

    def __imul__(self, other: "Scalar | Vector") -> Self:  # type: ignore[misc]  # lists are not taken here
        """`v *= x` overwrites the tensors of `v`; as with `+=`, never use it on a vector of the memory."""
        if isinstance(other, Vector):
            torch._foreach_mul_(self.parts, other.dense())
            self._norm = self._bound = None
            return self
        scalar = _scalar(other)
        torch._foreach_mul_(self.parts, self.factor * scalar)
        bound = self.known_bound
        self.factor, self._norm, self._bound = 1.0, None, None if bound is None else bound * _size(scalar)
        return self

    def __truediv__(self, scalar: Scalar) -> "Vector":
        return self * (1.0 / scalar)

    def __neg__(self) -> "Vector":
        return self * -1.0

    def __add__(self, other: "Vector") -> "Vector":
        return self._sum(other, in_place=not self._is_plain())

    def __iadd__(self, other: "Vector") -> "Vector":
        """`v += u` overwrites the tensors of `v`: a third of the cost of new ones. Not for a vector of the memory."""
        return self._sum(other, in_place=True)

    def blend(self, decay: float, other: "Vector") -> None:
        """Become `decay * self + other`, in one sweep over the tensors and without new memory.

        `c*A + d*B` is `c * (A + d/c*B)`, and the factor `c` is only stored. Use it in `afterwards`, for a vector of the
        memory.
        """
        old = self.factor * decay
        if isinstance(old, float) and abs(old) >= LEAST and isinstance(other.factor, float):
            torch._foreach_add_(self.parts, other.parts, alpha=other.factor / old)
            self.factor = old
        else:
            torch._foreach_mul_(self.parts, old)
            torch._foreach_add_(self.parts, other.dense())
            self.factor = 1.0
        self._norm = self._bound = None

    def __sub__(self, other: "Vector") -> "Vector":
        return self + -other

    def _sum(self, other: "Vector", in_place: bool) -> "Vector":
        own, its = self.known_bound, other.known_bound
        noted = isinstance(other.factor, float)  # then the sum below multiplies it in
        add, alpha = (other.parts, float(other.factor)) if noted else (other.dense(), 1.0)
        if in_place:
            mine = self.dense()
            torch._foreach_add_(mine, add, alpha=alpha)
        else:
            mine = list(torch._foreach_add(self.dense(), add, alpha=alpha))
        total = Vector(mine)
        if own is not None and its is not None:
            total._bound = own + its
        return total

    @property
    def known_bound(self) -> Scalar | None:
        """An upper bound of the norm, by the triangle inequality. It shows without a sweep that the norm is finite."""
        return self._bound if self._norm is None else self._norm

    def add_to(self, tensors: list[Tensor]) -> None:
        """Add this to `tensors` in place."""
        if isinstance(self.factor, float):
            torch._foreach_add_(tensors, self.parts, alpha=self.factor)
        else:
            torch._foreach_add_(tensors, self.dense())

    def __matmul__(self, other: "Vector") -> Tensor:
        """The inner product, a 0-dim tensor."""
        return self.dots(other).sum()

    def dots(self, other: "Vector") -> Tensor:
        """The inner product of each tensor with that of `other`: (number of tensors,)."""
        pairs = zip(self.parts, other.parts, strict=True)
        if self.parts[0].is_cuda:
            sums = [product.sum() for product in torch._foreach_mul(self.parts, other.parts)]
        else:
            sums = [torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in pairs]
        return torch.stack(_one_dtype(sums)) * (self.factor * other.factor)

    def norm(self) -> Tensor:
        """The L2 norm over all tensors, 0-dim."""
        if self._norm is None:
            self._norm = torch.linalg.vector_norm(self.norms())
        return self._norm

    def norms(self) -> Tensor:
        """The L2 norm of each tensor: (number of tensors,)."""
        lengths = torch.stack(_one_dtype(torch._foreach_norm(self.parts)))
        return lengths if self._is_plain() else lengths * _size(self.factor)

    def abs(self) -> "Vector":
        """Element by element."""
        return Vector(torch._foreach_abs(self.dense()))

    def __getitem__(self, which: slice) -> "Vector":
        """Some of the tensors."""
        return Vector(self.parts[which], self.factor)

    # -- elsewhere -----------------------------------------------------------------------------------------------

    def flat(self) -> Tensor:
        """One new tensor (N,)."""
        return torch.cat([part.reshape(-1) for part in self.dense()])

    def like(self, flat: Tensor) -> "Vector":
        """`flat` (N,) in the shapes of this vector."""
        parts = torch.split(flat, [part.numel() for part in self.parts])
        return Vector(part.view(own.shape) for part, own in zip(parts, self.parts, strict=True))


def _scalar(value: Scalar) -> Scalar:
    """A scalar tensor on the CPU as a float: reading it is free there, and a sum can then multiply by it."""
    if isinstance(value, Tensor) and not value.is_cuda and value.device.type == "cpu":
        return value.item()
    return value


def _size(value: Scalar) -> Scalar:
    return value.abs() if isinstance(value, Tensor) else abs(value)


def _one_dtype(values: Iterable[Tensor]) -> list[Tensor]:
    values = list(values)
    if len({v.dtype for v in values}) == 1:
        return values
    dtype = max((v.dtype for v in values), key=lambda d: torch.finfo(d).bits)
    return [v.to(dtype) for v in values]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of vectors over parameters of `dtype`: at least float32, because a bf16 average would not move."""
    return torch.promote_types(dtype, torch.float32)


def safe(value: float, otherwise: float = 0.0) -> float:
    """`value`, or `otherwise` where it is NaN or infinite."""
    return value if math.isfinite(value) else otherwise
