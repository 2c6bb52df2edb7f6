"""ESAM, efficient SAM (Du et al., ICLR 2022, arXiv 2110.03141); the rule is that of the authors' code."""

from typing import Unpack

from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import Common, SharpnessAware
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector
from sam_bench.options import method

CODE_TINY = 1e-7
ALL = 0.99  # from this gamma on every sample is chosen


class ESAM(SharpnessAware):
    """SAM that perturbs a random choice of the tensors and takes `g_s` on the samples whose loss rises most.

    Each tensor is perturbed with probability `beta`: `eps = (rho/beta) * g/||g||` over the drawn tensors. `g_s` is the
    mean gradient of the samples with `l(w+eps) - l(w)` above the `int(gamma*n)`-th largest value. Cost
    `1 + 1/3 + gamma`: a forward pass finds the samples. If the closure does not take `backward`, it costs a whole pass.

    Args:
        beta: probability that a tensor is perturbed.
        gamma: share of the samples in the second pass.

    Raises TypeError if the closure takes no `index`, ValueError if it does not return a loss per sample.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps * (1 + 1 / 3 + max(int(optimizer.gamma * n) - 1, 2) / n),
        neutral={"gamma": 1.0},
        limits=(Limit({"beta": 1.0, "gamma": 1.0}, "sam"),),
        one_process=False,
    )

    chooses_samples = True

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, beta: float = 0.6, gamma: float = 0.5,
        **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, **common)
        check_options(method.ESAM, beta=beta, gamma=gamma)
        self.beta, self.gamma = beta, gamma

    def direction(self, oracle: Oracle) -> Vector:
        """`g_s` on the chosen samples."""
        if self.gamma < ALL:
            oracle.require_index()
        g = oracle()
        eps = self._perturbation(g)
        if self.gamma >= ALL:
            return oracle(eps)
        before = oracle.losses[0]
        if before.ndim != 1:
            raise ValueError("ESAM compares the losses of samples: let the closure return one loss per sample (n,)")
        return oracle(eps, self._chosen(oracle.losses_at(eps) - before))

    def drawn(self) -> list[bool]:
        """Which tensors are perturbed in this step."""
        draws = self.draws()
        return [draws.random() <= self.beta for _ in self.params]

    def _perturbation(self, g: Vector) -> Vector:
        drawn = self.drawn()
        if not all(drawn):
            g = g * [float(chosen) for chosen in drawn]
        return self.times_rho(g / (self.beta * (g.norm() + CODE_TINY)))

    def _chosen(self, rise: Tensor) -> Tensor:
        """The samples strictly above the cut, as in the authors' code: one fewer than `int(gamma*n)`.

        If fewer than two are left (BatchNorm needs two): the first `int(gamma*n)` samples, at least two.
        """
        falling, order = rise.sort(descending=True, stable=True)
        count = int(self.gamma * len(rise))
        above = (rise > falling[max(count, 1) - 1]).nonzero().squeeze(1)
        return above if len(above) > 1 else order[: max(count, 2)]
