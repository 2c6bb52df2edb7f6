"""ASAM, adaptive SAM (Kwon, Kim, Park, Choi, ICML 2021, arXiv 2102.11600); the rule is that of the authors' code."""

from typing import Literal, Unpack

import torch
from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import Common
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.vector import Vector
from sam_bench.options import method

TINY = {"weight": 1e-16, "all": 1e-12}  # as in the code of each scope


class ASAM(SAM):
    """SAM with a perturbation scaled by the size of each weight: `eps = rho * T^2 g/||T g||`, `T = |w| + eta`. Cost 2.

    Args:
        rho: radius relative to the size of the weights; 0.5 is the authors' default.
        eta: added to `|w|`.
        scope: "weight": `T` scales the parameters with `weight` in their name and is 1 elsewhere (the authors' code);
            "all": it scales every parameter (the popular port, which has eta = 0).

    Raises ValueError for another scope.
    """

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.5, eta: float = 0.01,
        scope: Literal["weight", "all"] = "weight", **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        check_options(method.ASAM, eta=eta, scope=scope)
        self.eta, self.scope = eta, scope

    def ascent(self, g: Vector) -> Vector:
        """`rho * T^2 g/||T g||`, which overwrites `g`."""
        t = self._scale()
        g *= t
        length = g.norm()
        g *= t
        return self.times_rho(g / (length + TINY[self.scope]))

    def _scale(self) -> Vector:
        """`T`, in new tensors."""
        t = self.weights.abs()
        torch._foreach_add_(t.parts, self.eta)
        if self.scope == "weight":
            scaled = {p for name, p in self.model.named_parameters() if "weight" in name}
            for part, p in zip(t.parts, self.params, strict=True):
                if p not in scaled:
                    part.fill_(1.0)
        return t
