"""Perturb the weights for one pass and restore them exactly."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sam_bench.optim.vector import Vector


class Perturbation:
    """`with perturbation(params, eps)`: the weights are `w + eps` inside and bit for bit `w` afterwards, in place.

    The tensors of the saved copy are reused. On a CPU, the page faults of new large tensors cost more than the rest.
    """

    def __init__(self) -> None:
        self._saved: list[Tensor] = []

    @contextmanager
    def __call__(self, params: list[Tensor], eps: Vector | None) -> Iterator[None]:
        # Autocast caches low-precision copies of the weights until its context ends. If that is around the whole step,
        # a pass would compute with the weights of the pass before.
        torch.clear_autocast_cache()
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
            torch.clear_autocast_cache()


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device, tensor.stride()
