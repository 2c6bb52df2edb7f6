"""AE-SAM (Jiang, Yang, Zhang, Kwok, ICLR 2023, arXiv 2304.14647)."""

import math
from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.base import Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.when import Always, LargeGradient


class AESAM(SAM):
    """SAM on the steps whose squared gradient norm is large for its moving mean and variance; else the plain gradient.

    Cost `1 + sam_fraction`, which is measured. The defaults sample about half the steps; they are unverified.

    Args:
        delta: decay of the moving mean and variance.
        lambda_1: threshold at the end of the training, in standard deviations; -inf is SAM.
        lambda_2: threshold at the start of the training; +inf is the base alone.
        mu_0: moving mean before the first step.
        sigma2_0: moving variance before the first step.

    Raises ValueError without total_steps.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps + optimizer.memory["sampled"],
        limits=(
            Limit({"lambda_1": -math.inf, "lambda_2": -math.inf}, "sam"),
            Limit({"lambda_1": math.inf, "lambda_2": math.inf}, "erm"),
        ),
    )

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, delta: float = 0.9, lambda_1: float = -1.0,
        lambda_2: float = 1.0, mu_0: float = 0.0, sigma2_0: float = math.exp(-10), **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, when=Always(), **common)
        total = self.needs("total_steps", "over which its threshold goes from lambda_2 to lambda_1")
        self.when = LargeGradient(total, delta, lambda_1, lambda_2, mu_0, sigma2_0)
