"""GraphSAM (Wang et al., ICLR 2024, arXiv 2406.13137), as the paper has it."""

from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.base import TINY, Common, SharpnessAware
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector


class GraphSAM(SharpnessAware):
    """SAM whose perturbation gradient `h` is exact once an epoch and otherwise a moving average. Cost `1 + 1/epoch`.

    First step of an epoch: `h = g`. Later: `h <- beta*h + (1-beta)*g_s/||g_s||` with the previous updating gradient.
    `eps = rho_e * h/||h||`, `rho_e = rho * gamma^floor(epoch/lambda)`; descend along `g_s` (section 4, Algorithm 1).

    Args:
        beta: weight of the old average.
        gamma: factor on rho at each decay; the repository's 0.5 removes the perturbation within ten epochs.
        decay_epochs: the paper's lambda, epochs from one decay to the next.

    Raises ValueError without steps_per_epoch.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps + -(-steps // optimizer.steps_per_epoch),
        limits=(Limit({"steps_per_epoch": 1, "gamma": 1.0}, "sam"),),
    )

    vectors = ("h",)

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, beta: float = 0.99, gamma: float = 0.5,
        decay_epochs: int = 1, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        if decay_epochs < 1:
            raise ValueError(f"decay_epochs must be at least 1, got {decay_epochs}")
        self.beta, self.gamma, self.decay_epochs = beta, gamma, decay_epochs
        self.needs("steps_per_epoch", "because the perturbation is exact at the first step of each epoch")

    def direction(self, oracle: Oracle) -> Vector:
        """`g_s`, the gradient at `w + eps`."""
        if self.memory.get("exact_epoch") != self.epoch:
            # The first step of an epoch, or the next if that one had to be skipped.
            h = oracle()
            self.memory["exact_epoch"] = self.epoch
        else:
            h = self.memory["h"]
        g_s = oracle(self.to_radius(h) * self.decay())
        # What the next step perturbs with; storing it now spares the memory of g_s.
        self.memory["h"] = self._average(h, g_s)
        return g_s

    def _average(self, h: Vector, g_s: Vector) -> Vector:
        """`beta*h + (1-beta)*g_s/||g_s||`."""
        return h.running(self.beta, (1 - self.beta) * g_s / (g_s.norm() + TINY))

    def decay(self) -> float:
        """`gamma^floor(epoch/lambda)`."""
        return self.gamma ** (self.epoch // self.decay_epochs)

    @property
    def epoch(self) -> int:
        """Epochs begun before this step, by the batches seen."""
        return (self.memory["step"] + self.memory["skipped"]) // self.steps_per_epoch
