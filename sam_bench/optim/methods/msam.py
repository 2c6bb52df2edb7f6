"""Momentum-SAM (Becker, Altrock, Risse, arXiv 2401.12033); the rule is that of the authors' code."""

from typing import Unpack

import torch
from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import Common, SharpnessAware
from sam_bench.optim.claims import Claims
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector, wide
from sam_bench.options import method

BUFFERS = ("momentum_buffer", "exp_avg")  # SGD's, Adam's


class MSAM(SharpnessAware):
    """The gradient at `w - rho * v/||v||`, `v` the momentum of the base; applied at `w`. Cost 1.

    The first step has no momentum and so no perturbation. The sign is that of the authors' code: the perturbation
    points along the coming update.

    Args:
        rho: radius; the authors use 3 for SGD and 1 for AdamW where SAM has 0.3.
        momentum: decay of the average of gradients that the method keeps for a base without momentum.
    """

    claims = Claims(passes=lambda optimizer, steps, n: steps)

    vectors = ("v",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.3, momentum: float = 0.9, **common: Unpack[Common]
    ):
        super().__init__(base, model, rho=rho, **common)
        check_options(method.MSAM, momentum=momentum)
        self.momentum = momentum

    def direction(self, oracle: Oracle) -> Vector:
        """The gradient at the perturbed weights."""
        v = self.memory.get("v") if self._keeps_own() else self._momentum_of_base()
        return oracle(None if v is None else -self.to_radius(v))

    def afterwards(self, direction: Vector) -> None:
        """`v <- momentum*v + g`, for a base without momentum."""
        if not self._keeps_own():
            return
        if "v" in self.memory:
            self.memory["v"].blend(self.momentum, direction)
        else:
            self.memory["v"] = direction

    def _keeps_own(self) -> bool:
        return not any(group.get("momentum") or "betas" in group for group in self.param_groups)

    def _momentum_of_base(self) -> Vector | None:
        buffers = []
        for p in self.params:
            state = self.base.state.get(p, {})
            buffers.append(next((state[name] for name in BUFFERS if state.get(name) is not None), None))
        if all(b is None for b in buffers):
            return None
        pairs = zip(buffers, self.params, strict=True)
        return Vector((torch.zeros_like(p) if b is None else b).to(wide(p.dtype)) for b, p in pairs)
