"""F-SAM, friendly SAM (Li, Zhou, He, Cheng, Huang, CVPR 2024); the rule is that of the authors' code."""

from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.vector import Vector
from sam_bench.options import method


class FSAM(SAM):
    """SAM that perturbs only along the part of the gradient that is specific to the batch. Cost 2.

    `d = g - sigma*m`, `eps = rho * d/||d||`, then `m <- lmbda*m + (1-lmbda)*g`; the first step has `m = g`, `d = g`.

    Args:
        sigma: how much of the moving average is subtracted.
        lmbda: weight of the old average; the repository's scripts use 0.6 and 0.95.
    """

    claims = Claims(passes=SAM.claims.passes, limits=(Limit({"sigma": 0.0}, "sam"),))

    vectors = ("m",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, sigma: float = 1.0, lmbda: float = 0.9,
        **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        if isinstance(self.m_sharpness, int):
            raise ValueError("F-SAM averages the gradient of the whole batch: m_sharpness cannot be a number")
        check_options(method.FSAM, sigma=sigma, lmbda=lmbda)
        self.sigma, self.lmbda = sigma, lmbda
        self._d: Vector | None = None  # `d` of the current step

    def ascent(self, g: Vector) -> Vector:
        """`rho * d/||d||`; `d` overwrites `g`."""
        self._d = None
        if (m := self.memory.get("m")) is None:
            self.memory["m"] = g
        else:
            g += -self.sigma * m
            self._d = g
        return self.to_radius(g)

    def afterwards(self, direction: Vector) -> None:
        """`m <- lmbda*m + (1-lmbda)*g`, where `g` is computed as `d + sigma*m`."""
        if self._d is not None:
            self.memory["m"].blend(self.lmbda + (1 - self.lmbda) * self.sigma, (1 - self.lmbda) * self._d)
            self._d = None
