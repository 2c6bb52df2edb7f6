"""Weights that are `w + eps` for the time of a pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sam_bench.optim.vector import Vector


class Perturbation:
    """`with perturbation(params, eps)`: the weights are `w + eps`, and afterwards `w` to the last bit, in place.

    The memory of the saved copy is kept: on a CPU a fresh large tensor costs more in page faults than all else here.
    """

    def __init__(self) -> None:
        self._saved: list[Tensor] = []

    @contextmanager
    def __call__(self, params: list[Tensor], eps: Vector | None) -> Iterator[None]:
        if eps is None:
            yield
            return
        if [_form(s) for s in self._saved] != [_form(p) for p in params]:
            self._saved = [torch.empty_like(p) for p in params]
        torch._foreach_copy_(self._saved, params)
        try:
            eps.add_to(params)
            yield
        finally:
            torch._foreach_copy_(params, self._saved)


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device, tensor.stride()
