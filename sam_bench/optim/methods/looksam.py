"""LookSAM (Liu et al., CVPR 2022, arXiv 2203.02714)."""

from typing import Unpack

from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim.base import TINY, Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM, When
from sam_bench.optim.vector import Vector
from sam_bench.optim.when import EveryK

# The public per-tensor port guards its norms with 1e-8, which shows where ||g_v|| is small.
PER_TENSOR_TINY = 1e-8
SMALLEST = 1e-30  # a tensor without gradient divides zero by this


class ReusingSAM(SAM):
    """SAM that reuses the part of `g_s` orthogonal to `g` on the steps without second gradient (Algorithm 1).

    After a step with `g_s`: `g_v = g_s - (<g_s,g>/||g||^2) g`. A step without descends along
    `g + alpha * (||g||/||g_v||) * g_v`. Norms and products are over the whole vector, or `per_tensor`.
    """

    vectors = ("g_v",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float, alpha: float, per_tensor: bool, when: When,
        **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, when=when, **common)
        self.alpha, self.per_tensor, self.tiny = alpha, per_tensor, PER_TENSOR_TINY if per_tensor else TINY

    def ascent(self, g: Vector) -> Vector:
        """`rho * g/||g||`; the radius is global in both variants."""
        return self.times_rho(g / (g.norm() + max(self.tiny, TINY)))

    def remember(self, g: Vector, g_s: Vector) -> Vector:
        """Note `g_v`; descend along `g_s`."""
        share: Tensor | list[Tensor]
        if self.per_tensor:
            share = list(g_s.dots(g) / g.dots(g).clamp_min(SMALLEST))
        else:
            share = (g_s @ g) / (g.norm() ** 2 + self.tiny)
        self.memory["g_v"] = g_s - g * share
        return g_s

    def reuse(self, g: Vector) -> Vector:
        """`g + alpha * (||g||/||g_v||) * g_v`, and `g` before the first `g_v` is known."""
        g_v: Vector | None = self.memory.get("g_v")
        if g_v is None:
            return g
        if self.per_tensor:
            return g + g_v * list(self.alpha * g.norms() / (g_v.norms() + self.tiny))
        g += self.alpha * (g.norm() / (g_v.norm() + self.tiny)) * g_v
        return g


class LookSAM(ReusingSAM):
    """SAM every `k`-th step, its orthogonal part reused between. Cost `1 + 1/k`.

    Args:
        k: steps from one second gradient to the next; 1 is SAM.
        alpha: length of the reused part relative to `||g||`; 0.7 is the paper's for ViT, Momentum-SAM's authors
            reran it with 0.1 on CIFAR-100 ResNets.
        per_tensor: norms and products per tensor, as the widespread public port has them; the paper's are global.

    Raises ValueError for k < 1. The rule is from agreeing transcriptions; no official code is public.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps + -(-steps // optimizer.when.k),
        neutral={"alpha": 0.0},
        limits=(Limit({"k": 1}, "sam", 1e-6), Limit({"k": 1, "per_tensor": True}, "sam", 1e-6)),
    )

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, k: int = 5, alpha: float = 0.7,
        per_tensor: bool = False, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, alpha=alpha, per_tensor=per_tensor, when=EveryK(k), **common)
        if not per_tensor:
            # The whole-vector code that we are held against guards with the base's own eps where it has one (Adam).
            self.tiny = base.param_groups[0].get("eps", TINY)
