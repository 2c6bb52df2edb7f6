"""Policies that decide whether a step takes the second gradient. Their state is in the memory of the method.

A policy is called once per step with the gradient and the memory. It averages every scalar that it reads over the
ranks, so that all ranks decide alike.
"""

import math
from dataclasses import dataclass
from typing import Any

from sam_bench.optim import distributed
from sam_bench.optim.arguments import check_options, whole_number
from sam_bench.optim.vector import Vector
from sam_bench.options import method

TINY = 1e-30


@dataclass(frozen=True)
class Always:
    """Every step."""

    def __call__(self, g: Vector, memory: dict[str, Any]) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class EveryK:
    """The first of every `k` steps (LookSAM, section 3.2)."""

    k: int

    def __post_init__(self) -> None:
        whole_number("k", self.k)

    def __call__(self, g: Vector, memory: dict[str, Any]) -> bool:
        """Whether `t mod k == 0`."""
        return int(memory["step"]) % self.k == 0


@dataclass(frozen=True)
class LargeGradient:
    """Steps whose squared gradient norm `s_t` is large for its moving mean and deviation (AE-SAM, section 4.2).

    The rule was read in two agreeing transcriptions, not in official code; `mu_0` and `sigma2_0` are unverified.
    """

    total_steps: int
    delta: float = 0.9
    lambda_1: float = -1.0
    lambda_2: float = 1.0
    mu_0: float = 0.0
    sigma2_0: float = math.exp(-10)

    def __post_init__(self) -> None:
        own = {name: value for name, value in vars(self).items() if name != "total_steps"}
        check_options(method.AESAM, **own)

    def __call__(self, g: Vector, memory: dict[str, Any]) -> bool:
        """Whether `s_t >= mu_t + c_t sqrt(sigma2_t)`; waits for the device once."""
        s = distributed.agree(g.norm() ** 2)
        delta = self.delta
        mu = delta * memory.get("mu", self.mu_0) + (1 - delta) * s
        sigma2 = delta * memory.get("sigma2", self.sigma2_0) + (1 - delta) * (s - mu) ** 2
        memory["mu"], memory["sigma2"] = mu, sigma2
        return bool(s >= mu + self.c(memory["step"]) * math.sqrt(max(sigma2, TINY)))

    def c(self, t: int) -> float:
        """`c_t`, which goes from `lambda_2` to `lambda_1` over the training; both may be infinite."""
        share = min(1.0, t / self.total_steps)
        return sum(weight * value for weight, value in ((share, self.lambda_1), (1 - share, self.lambda_2)) if weight)
