"""SAM as variational inference (Ujvary, Telek, Kerekes, Meszaros, Huszar, arXiv 2210.10452)."""

import math
from typing import Literal, Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import Common, SharpnessAware
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector
from sam_bench.options import method


class SAMVI(SharpnessAware):
    """The gradient at `w + sigma*xi` (mean-field variational inference), with or without SAM's `eps` added.

    `xi` is standard normal, drawn anew at each step from (seed, step). Cost 1 for "mfvi", 2 for "both". We inferred the
    formula from the abstract and did not read the paper's own.

    Args:
        mode: "mfvi": `sigma*xi` alone; "both": `rho * g/||g|| + sigma*xi`.
        sigma: standard deviation of the noise; None is `rho/sqrt(N)` for N trained weights, so its length is about rho.

    Raises ValueError for another mode or a negative sigma.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps * (1 if optimizer.mode == "mfvi" else 2),
        limits=(Limit({"mode": "both", "sigma": 0.0}, "sam"), Limit({"mode": "mfvi", "sigma": 0.0}, "erm")),
    )

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, mode: Literal["mfvi", "both"] = "both",
        sigma: float | None = None, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        check_options(method.SAMVI, mode=mode, sigma=sigma)
        self.mode, self.sigma = mode, sigma

    def direction(self, oracle: Oracle) -> Vector:
        """The gradient at the perturbed weights."""
        noise = self.noise()
        noise = self.times_rho(noise) if self.sigma is None else noise * (self.sigma * math.sqrt(self.trained))
        return oracle(noise if self.mode == "mfvi" else self.to_radius(oracle()) + noise)
