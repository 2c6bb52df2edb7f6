"""SAM (Foret et al., ICLR 2021, arXiv 2010.01412)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import Common, SharpnessAware
from sam_bench.optim.claims import Claims
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector
from sam_bench.optim.when import Always
from sam_bench.options import method

When = Callable[[Vector, dict[str, Any]], bool]


class SAM(SharpnessAware):
    """`eps = rho * g/||g||`; descend along `g_s`, the gradient at `w + eps` (Algorithm 1). Cost 2.

    Args:
        m_sharpness: None: one perturbation for the whole batch, also on several ranks. "device": each rank perturbs
            with its own gradient, as in the paper; each rank then has its own state in memory. A number m: the batch
            is split into pieces of m samples, each with its own perturbation; the closure must take `index`, and `step`
            needs `samples`. Running statistics then move once for each piece.
        when: policy that decides whether a step takes the second gradient; None takes it on every step.

    Raises ValueError for any other m_sharpness. The other options are those of SharpnessAware.
    """

    claims = Claims(passes=lambda optimizer, steps, n: 2 * steps)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05,
        m_sharpness: int | Literal["device"] | None = None, when: When | None = None, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        check_options(method.SAM, m_sharpness=m_sharpness)
        if isinstance(m_sharpness, int) and self.same_dropout:
            raise ValueError("same_dropout does not work with m_sharpness as a number of samples: leave one out")
        self.m_sharpness, self.when = m_sharpness, when or Always()
        self.local_passes = m_sharpness == "device"

    def direction(self, oracle: Oracle) -> Vector:
        """`g_s`, or on a step without a second gradient what `reuse` makes of `g`."""
        pieces = self._pieces(oracle)
        gs = oracle.pieces(pieces)
        g = self._mean(gs, pieces)
        if not self.decide(g):
            return self.reuse(g)
        g_s = self._mean([oracle(self.ascent(own), i) for own, i in zip(gs, pieces, strict=True)], pieces)
        return self.remember(g, g_s)

    def decide(self, g: Vector) -> bool:
        """Whether this step takes the second gradient."""
        return self.when(g, self.memory)

    def ascent(self, g: Vector) -> Vector:
        """The perturbation `eps`."""
        return self.to_radius(g)

    def remember(self, g: Vector, g_s: Vector) -> Vector:
        """The direction of a step with a second gradient; stores what later steps need."""
        return g_s

    def reuse(self, g: Vector) -> Vector:
        """The direction of a step without a second gradient."""
        return g

    def _pieces(self, oracle: Oracle) -> Sequence[Tensor | None]:
        if not isinstance(self.m_sharpness, int):
            return [None]
        oracle.require_index()
        if oracle.samples is None:
            raise ValueError(
                "m_sharpness as a number splits the batch before its first pass: pass step(closure, samples=...), the "
                "positions (n,) of the batch in the training set; torch.arange(n) will do"
            )
        return torch.split(torch.arange(oracle.n, device=oracle.device), self.m_sharpness)

    @staticmethod
    def _mean(gs: Sequence[Vector], pieces: Sequence[Tensor | None]) -> Vector:
        if len(gs) == 1:
            return gs[0]
        counts = [len(piece) for piece in pieces if piece is not None]
        parts = [g * (count / sum(counts)) for g, count in zip(gs, counts, strict=True)]
        return sum(parts[1:], start=parts[0])
