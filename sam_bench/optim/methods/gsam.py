"""GSAM, surrogate-gap SAM (Zhuang et al., ICLR 2022, arXiv 2203.08065); the rule is that of the authors' code."""

from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import TINY, Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.vector import Vector
from sam_bench.options import method


class GSAM(SAM):
    """SAM that also reduces the surrogate gap: it descends along `g_s - alpha * g_perp`. Cost 2.

    `g_perp` is the part of `g` orthogonal to `g_s` (Algorithm 1).

    Args:
        alpha: weight of the gap; 0.4 is the repository's example.
        rho_min: rho follows the learning rate down to this value: `rho_min + (rho - rho_min) * min(1, lr/lr_0)`. `lr_0`
            is the `max_lr` of OneCycleLR, else the `initial_lr` that schedulers set, else the learning rate at
            construction. A group whose own rho is smaller keeps it. None keeps rho constant.
    """

    claims = Claims(passes=SAM.claims.passes, neutral={"alpha": 0.0}, limits=(Limit({"alpha": 0.0}, "sam"),))

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, alpha: float = 0.4,
        rho_min: float | None = None, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        check_options(method.GSAM, rho_min=rho_min)
        self.alpha, self.rho_min = alpha, rho_min

    def rhos(self) -> list[float]:
        """`rho_t` of each group."""
        if self.rho_min is None:
            return super().rhos()
        found = []
        for group in self.param_groups:
            peak = group.get("max_lr", group.get("initial_lr", group.get("peak_lr", group["lr"])))
            share = min(1.0, group["lr"] / max(peak, TINY))
            low = min(self.rho_min, group["rho"])
            found.append(low + (group["rho"] - low) * share)
        return found

    def _complete_groups(self) -> None:
        super()._complete_groups()
        for group in self.param_groups:
            group.setdefault("peak_lr", group["lr"])

    def remember(self, g: Vector, g_s: Vector) -> Vector:
        """`g_s - alpha * g_perp`, where `g_perp = g - c*g_s`; it overwrites `g_s`."""
        g_norm, g_s_norm = g.norm(), g_s.norm()
        cosine = (g @ g_s) / (g_norm * g_s_norm + TINY)
        g_s *= 1.0 + self.alpha * (cosine * g_norm / (g_s_norm + TINY))
        g_s += -self.alpha * g
        return g_s
