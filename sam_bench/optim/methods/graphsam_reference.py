"""GraphSAM as its authors' code runs it (github.com/YL-wang/GraphSAM, with the gradients of torch 1.x)."""

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import nn
from torch.optim import Optimizer

from sam_bench.optim import distributed
from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import TINY, Common
from sam_bench.optim.claims import Claims
from sam_bench.optim.methods.graphsam import GraphSAM
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector
from sam_bench.options import method

CODE_TINY = 1e-8


class GraphSAMReference(GraphSAM):
    """The authors' code; each difference from the paper is an option. Cost `1 + 1/steps_per_epoch`.

    Args:
        radius: largest norm of the perturbation of each tensor; it decays like rho. None does not clip.
        zeroed_norm: after the first batch of an epoch, the code takes the norm of gradients that are already zero. So
            the perturbation is `h * rho/1e-12`, and only the clip limits it. False takes the norm of the last `g_s`.
        zeroed_average: on a CPU the stored `g_s` is `p.grad` itself and is zeroed with it, so `h` keeps the direction
            of the epoch's first gradient. False is what the code does on a GPU, where it stores a copy.
        per_tensor: in the average, normalise `g_s` tensor by tensor.
        adaptive: scale the perturbation by `w^2`.
        weigh_loss: multiply `g_s` by the loss, as `loss.backward(loss)` does.
        compound_decay: `rho * gamma^(m(m+1)/2)`, `m = floor(epoch/lambda)`, instead of `rho * gamma^m`.
    """

    claims = Claims(passes=GraphSAM.claims.passes, neutral={"weigh_loss": False})

    vectors = ("h", "g_s")

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, beta: float = 0.99, gamma: float = 0.5,
        decay_epochs: int = 1, radius: float | None = 0.05, zeroed_norm: bool = True, zeroed_average: bool = True,
        per_tensor: bool = True, adaptive: bool = True, weigh_loss: bool = True, compound_decay: bool = True,
        **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, beta=beta, gamma=gamma, decay_epochs=decay_epochs, **common)
        check_options(method.GraphSAMReference, radius=radius)
        self.radius, self.per_tensor, self.adaptive = radius, per_tensor, adaptive
        self.zeroed_norm, self.zeroed_average = zeroed_norm, zeroed_average
        self.weigh_loss, self.compound_decay = weigh_loss, compound_decay

    def other_options(self, memory: Mapping[str, Any]) -> str:
        """The code that keeps no `g_s`, of which this one needs the norm."""
        return "zeroed_norm=True" if "h" in memory and "g_s" not in memory and not self.zeroed_norm else ""

    def direction(self, oracle: Oracle) -> Vector:
        """`g_s`, multiplied by its loss if `weigh_loss` is true."""
        normed: Vector | None
        if self.memory.get("exact_epoch") != self.epoch:
            h = normed = oracle()
            self.memory["exact_epoch"] = self.epoch
        else:
            h, normed = self.memory["h"], None if self.zeroed_norm else self.memory["g_s"]
        g_s = oracle(self._perturbation(h, normed))
        if self.weigh_loss:
            g_s = g_s * distributed.mean(oracle.losses[-1].mean())
        self.memory["h"] = self.beta * h if self.zeroed_average else self._average(h, g_s)
        if not self.zeroed_norm:
            self.memory["g_s"] = g_s
        return g_s

    def afterwards(self, direction: Vector) -> None:
        """Nothing to do: `direction` has updated the memory."""

    def _average(self, h: Vector, g_s: Vector) -> Vector:
        """`beta*h + (1-beta)*g_s/||g_s||`."""
        if self.per_tensor:
            lengths = Vector([part + CODE_TINY for part in g_s.dense()]).norms()
            return self.beta * h + g_s * list((1 - self.beta) / (lengths + TINY))
        return self.beta * h + (1 - self.beta) * g_s / (g_s.norm() + TINY)

    def decay(self) -> float:
        """The factor on rho and on the radius in this epoch."""
        m = self.epoch // self.decay_epochs
        return self.gamma ** (m * (m + 1) // 2 if self.compound_decay else m)

    def _perturbation(self, h: Vector, normed: Vector | None) -> Vector:
        """`eps` from `h`, scaled by the norm of `normed`; None stands for the norm zero."""
        w = self.weights
        length = 0.0 if normed is None else (w.abs() * normed if self.adaptive else normed).norm()
        eps = self.times_rho((w * w * h if self.adaptive else h) * (self.decay() / (length + TINY)))
        if self.radius is None:
            return eps
        limit, lengths = self.radius * self.decay(), eps.norms()
        return eps * list(torch.where(lengths > limit, limit / lengths, 1.0))
