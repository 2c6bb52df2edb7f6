"""AE-LookSAM (Jiang, Yang, Zhang, Kwok, ICLR 2023, arXiv 2304.14647)."""

import math
from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.base import Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.looksam import ReusingSAM
from sam_bench.optim.when import TINY, Always, LargeGradient


class AELookSAM(ReusingSAM):
    """AE-SAM's test picks the SAM steps; the other steps reuse a part of `g_s`, as in LookSAM.

    Cost `1 + sam_fraction`. The thresholds are our choice: if `s_t` were normally distributed, a fifth of the steps
    would be sampled. The paper is said to use this share (unverified). The options are those of AESAM and LookSAM.
    Raises ValueError without total_steps.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps + optimizer.memory["sampled"],
        neutral={"alpha": 0.0},
        limits=(
            Limit({"lambda_1": -math.inf, "lambda_2": -math.inf}, "sam", 1e-6),
            Limit({"lambda_1": math.inf, "lambda_2": math.inf}, "erm"),
        ),
        small={"lambda_1": -1.0, "lambda_2": 1.0},
    )

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, alpha: float = 0.7, per_tensor: bool = False,
        delta: float = 0.9, lambda_1: float = 0.0, lambda_2: float = 2.0, mu_0: float = 0.0,
        sigma2_0: float = math.exp(-10), **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, alpha=alpha, per_tensor=per_tensor, when=Always(), **common)
        self.tiny = TINY
        total = self.needs("total_steps", "over which its threshold goes from lambda_2 to lambda_1")
        self.when = LargeGradient(total, delta, lambda_1, lambda_2, mu_0, sigma2_0)
