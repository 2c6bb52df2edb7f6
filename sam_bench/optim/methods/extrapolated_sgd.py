"""Extrapolated SGD (Lin, Kong, Stich, Jaggi, ICML 2020, arXiv 2006.05720)."""

from typing import Literal, Unpack

import torch
from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import Common, SharpnessAware
from sam_bench.optim.claims import Claims
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector
from sam_bench.options import method


class ExtrapolatedSGD(SharpnessAware):
    """The gradient at `w - rho*d`, applied at `w`; `d` is the previous mini-batch gradient, or noise. Cost 1.

    We inferred the rule from summaries and did not read the paper. With "gradient" the first step has no `d`, so it
    does not extrapolate.

    Args:
        rho: the paper's extrapolation length gamma-hat: a factor on `d`, not a radius; its size is of the order of the
            learning rate.
        along: "gradient" or "noise" (standard normal, divided by sqrt(N), drawn from (seed, step)).

    Raises ValueError for another `along`.
    """

    claims = Claims(passes=lambda optimizer, steps, n: steps)

    vectors = ("d",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.1, along: Literal["gradient", "noise"] = "gradient",
        **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        check_options(method.ExtrapolatedSGD, along=along)
        self.along = along

    def direction(self, oracle: Oracle) -> Vector:
        """The gradient at the extrapolated weights."""
        d = self.noise() if self.along == "noise" else self.memory.get("d")
        return oracle(None if d is None else -self.times_rho(d))

    def afterwards(self, direction: Vector) -> None:
        """`d <- g`, which overwrites the old `d`."""
        if self.along == "noise":
            return
        if "d" in self.memory:
            torch._foreach_copy_(self.memory["d"].parts, direction.dense())
        else:
            self.memory["d"] = direction
