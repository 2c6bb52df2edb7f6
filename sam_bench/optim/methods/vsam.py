"""vSAM, variance-sampled SAM (Deng, Pang, Zhang, Wang, arXiv 2403.08821); the rule is that of the authors' code."""

import random
from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim import distributed
from sam_bench.optim.arguments import check_options, whole_number
from sam_bench.optim.base import TINY, Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.vector import Vector, safe
from sam_bench.optim.when import Always
from sam_bench.options import method

WARM_UP_EPOCHS = 3
REUSES = 6  # after this many reuses of v the steps are plain


class VSAM(SAM):
    """SAM on some steps of each window; their number adapts to how `v = g_s - g` changes. Other steps reuse `v`.

    The first 3 epochs, and at least `K` steps, are SAM steps. After that `int(s)` random steps of each window of `K`
    are SAM steps. The k-th step after a SAM step descends along `g + beta^k v`, k = 1..6, later steps along `g`. After
    each window, `s <- clip(s*(1 + a1*dR + a2*dQ), 1, int(p_max*K))`, where dR and dQ are relative changes: of
    `R = ||v||/||g||`, and of `Q`, the mean variance of `||v||` within blocks. Cost `1 + sam_fraction`. We did not read
    the paper's own equations.

    Args:
        K: length of a window, in steps; the statistics are over K SAM steps.
        M: number of blocks of the sorted window; the variances of the blocks are averaged.
        p_max: largest share of SAM steps.
        last: the norms are taken over this many tensors, counted from the last.
        a1: weight of the relative change of `R`.
        a2: weight of the relative change of `Q`.
        beta: decay of the reused `v` from step to step.

    Raises ValueError without steps_per_epoch, or if a block would have fewer than two values.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps + optimizer.memory["sampled"],
        limits=(Limit({"K": 50, "M": 5}, "sam"),),  # a dozen steps are warm-up
        small={"K": 4, "M": 2, "last": 2, "steps_per_epoch": 1},
    )

    vectors = ("v",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, K: int = 50, M: int = 5, p_max: float = 0.8,
        last: int = 10, a1: float = 0.13, a2: float = 0.13, beta: float = 0.7, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, when=Always(), **common)
        check_options(method.VSAM, p_max=p_max, last=last, a1=a1, a2=a2, beta=beta)
        if whole_number("K", K) < 2 * whole_number("M", M):
            raise ValueError(f"a block needs two values: K must be at least 2*M, got K={K}, M={M}")
        if p_max * K < 1:
            raise ValueError(f"p_max must be at least 1/K, or no step of a block is SAM; got {p_max} with K={K}")
        self.K, self.M, self.p_max, self.last = K, M, p_max, last
        self.a1, self.a2, self.beta = a1, a2, beta
        epoch = self.needs("steps_per_epoch", "because its first three epochs are SAM")
        self.warm_up = max(WARM_UP_EPOCHS * epoch, K)
        self.memory |= {"s": 1.0, "used": 1, "reused": REUSES}

    def other_options(self, memory: Mapping[str, Any]) -> str:
        """A window of another length."""
        window = memory.get("N")
        return "" if window is None or len(window) == self.K else f"K={len(window)}"

    def draw(self, step: int) -> float:
        """A random number in [0, 1) that depends only on the seed and the step."""
        return random.Random(f"{type(self).__name__} {self.seed} {step}").random()

    def decide(self, g: Vector) -> bool:
        """Whether this step is one of the `int(s)` of its window."""
        memory = self.memory
        step = memory["step"]
        if step < self.warm_up:
            return True
        position = (step - self.warm_up + 1) % self.K
        if position == 0:
            memory["s"], memory["used"] = self._next_s(), 0
        s, used = memory["s"], memory["used"]
        lucky = used < int(s) and self.draw(step) >= 1 - s / self.K
        if lucky or self.K - position <= int(s) - used:
            memory["used"] += 1
            return True
        return False

    def remember(self, g: Vector, g_s: Vector) -> Vector:
        """Store `v` and its statistics; descend along `g_s`."""
        memory, last = self.memory, slice(-self.last, None)
        v = g_s - g
        n = v[last].norm()
        self._push("N", n)
        self._push("R", n / (g[last].norm() + TINY))
        self._push("Q", self._block_variance(memory["N"]))
        memory["v"], memory["reused"] = v, 0
        return g_s

    def reuse(self, g: Vector) -> Vector:
        """`g + beta^k v` for the first six steps after a SAM step, then `g`."""
        memory = self.memory
        if memory["reused"] >= REUSES:
            return g
        memory["reused"] += 1
        g += self.beta ** memory["reused"] * memory["v"]
        return g

    def _push(self, name: str, value: Tensor) -> None:
        window = self.memory.get(name)
        window = value.new_zeros(self.K) if window is None else window
        self.memory[name] = torch.cat([window[1:], value[None]])

    def _block_variance(self, window: Tensor) -> Tensor:
        size = self.K // self.M
        return window.sort().values[: size * self.M].view(self.M, size).var(dim=1).mean()

    def _next_s(self) -> float:
        d_r, d_q = (self._change(self.memory[name]) for name in ("R", "Q"))
        s = self.memory["s"] * (1 + self.a1 * d_r + self.a2 * d_q)
        return float(min(max(s, 1.0), int(self.p_max * self.K)))

    @staticmethod
    def _change(window: Tensor) -> float:
        """Mean relative change from one entry to the next, clipped to [-1, 1]; 0 if it is undefined."""
        change = distributed.agree(((window[1:] - window[:-1]) / window[:-1]).mean())
        return min(max(safe(change), -1.0), 1.0)
