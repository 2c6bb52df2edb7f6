"""GraphSAM (Wang et al., ICLR 2024, arXiv 2406.13137), as in the paper."""

from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import TINY, Common, SharpnessAware
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector
from sam_bench.options import method


class GraphSAM(SharpnessAware):
    """SAM along a gradient `h` that is exact once an epoch and else a moving average. Cost `1 + 1/steps_per_epoch`.

    First step of an epoch: `h = g`. Other steps: `h <- beta*h + (1-beta)*g_s/||g_s||` with `g_s` of the previous step.
    `eps = rho_e * h/||h||`, `rho_e = rho * gamma^floor(epoch/lambda)`; descend along `g_s` (section 4, Algorithm 1).

    Args:
        beta: weight of the old average.
        gamma: rho is multiplied by this at each decay; the repository's 0.5 removes the perturbation in ten epochs.
        decay_epochs: the paper's lambda: the number of epochs between two decays.

    Raises ValueError without steps_per_epoch.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps + -(-steps // optimizer.steps_per_epoch),
        limits=(Limit({"steps_per_epoch": 1, "gamma": 1.0}, "sam"),),
    )

    vectors: tuple[str, ...] = ("h",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, beta: float = 0.99, gamma: float = 0.5,
        decay_epochs: int = 1, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        check_options(method.GraphSAM, beta=beta, gamma=gamma, decay_epochs=decay_epochs)
        self.beta, self.gamma, self.decay_epochs = beta, gamma, decay_epochs
        self.needs("steps_per_epoch", "because the perturbation is exact at the first step of each epoch")

    def direction(self, oracle: Oracle) -> Vector:
        """`g_s`, the gradient at `w + eps`."""
        if self.memory.get("exact_epoch") != self.epoch:
            # The first step of an epoch, or the next one if the first was skipped.
            self.memory["h"], self.memory["exact_epoch"] = oracle(), self.epoch
        return oracle(self.to_radius(self.memory["h"]) * self.decay())

    def afterwards(self, direction: Vector) -> None:
        """`h <- beta*h + (1-beta)*g_s/||g_s||`, which the next step needs; so `g_s` is not stored."""
        self.memory["h"].blend(self.beta, (1 - self.beta) * direction / (direction.norm() + TINY))

    def decay(self) -> float:
        """`gamma^floor(epoch/lambda)`."""
        return self.gamma ** (self.epoch // self.decay_epochs)

    @property
    def epoch(self) -> int:
        """The number of this step's epoch, from 0; skipped steps count as batches too."""
        return int(self.memory["step"] + self.memory["skipped"]) // (self.steps_per_epoch or 1)
