"""LookSAM (Liu et al., CVPR 2022, arXiv 2203.02714)."""

from typing import Unpack

from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import TINY, Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM, When
from sam_bench.optim.vector import Vector
from sam_bench.optim.when import EveryK
from sam_bench.options import method

# The public per-tensor port adds 1e-8 to its norms, which changes the result where ||g_v|| is small.
PER_TENSOR_TINY = 1e-8
SMALLEST = 1e-30  # for a tensor without a gradient: zero is divided by this


class ReusingSAM(SAM):
    """SAM whose steps without a second gradient reuse the part of `g_s` orthogonal to `g` (Algorithm 1).

    A step with `g_s` stores `g_v = g_s - (<g_s,g>/||g||^2) g`. A step without it descends along
    `g + alpha * (||g||/||g_v||) * g_v`. Norms and inner products are over the whole vector, or `per_tensor`.
    """

    vectors = ("g_v",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float, alpha: float, per_tensor: bool, when: When,
        **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, when=when, **common)
        check_options(method.LookSAM, alpha=alpha, per_tensor=per_tensor)
        self.alpha, self.per_tensor, self.tiny = alpha, per_tensor, PER_TENSOR_TINY if per_tensor else TINY

    def ascent(self, g: Vector) -> Vector:
        """`rho * g/||g||`; the radius is global in both variants."""
        return self.times_rho(g / (g.norm() + max(self.tiny, TINY)))

    def remember(self, g: Vector, g_s: Vector) -> Vector:
        """Store `g_v`; descend along `g_s`."""
        share: Tensor | list[Tensor]
        if self.per_tensor:
            share = list(g_s.dots(g) / g.dots(g).clamp_min(SMALLEST))
        else:
            share = (g_s @ g) / (g.norm() ** 2 + self.tiny)
        self.memory["g_v"] = g_s - g * share
        return g_s

    def reuse(self, g: Vector) -> Vector:
        """`g + alpha * (||g||/||g_v||) * g_v`, or `g` while there is no `g_v` yet."""
        g_v: Vector | None = self.memory.get("g_v")
        if g_v is None:
            return g
        if self.per_tensor:
            return g + g_v * list(self.alpha * g.norms() / (g_v.norms() + self.tiny))
        g += self.alpha * (g.norm() / (g_v.norm() + self.tiny)) * g_v
        return g


class LookSAM(ReusingSAM):
    """SAM on every `k`-th step; the other steps reuse the part of `g_s` orthogonal to `g`. Cost `1 + 1/k`.

    Args:
        k: one step in k takes the second gradient; 1 is SAM.
        alpha: length of the reused part relative to `||g||`; the paper has 0.7 for ViT, and the authors of Momentum-SAM
            ran LookSAM with 0.1 for ResNets on CIFAR-100.
        per_tensor: compute norms and inner products per tensor, as the widespread port does; the paper's are global.

    Raises ValueError for k < 1. The rule is from transcriptions that agree; no official code is public.
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
            # The whole-vector code that we compare with adds the eps of the base, if the base has one (Adam).
            eps = base.param_groups[0].get("eps")
            self.tiny = eps if isinstance(eps, float) else TINY  # Adafactor has two
