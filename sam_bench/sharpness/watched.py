"""Compare the gradients of successive steps: train a run again, to the same bits, and measure on the way.

These are the observations behind GraphSAM (arXiv 2406.13137) and LookSAM (arXiv 2203.02714): the norms of `g` and
`g_s`, how much they turn from one step to the next, whether the last `g_s` predicts the next `g`, and how close the
direction of the method is to SAM's.
"""

import math

import torch
from torch import Tensor

from sam_bench.optim.oracle import rng_of, rng_state
from sam_bench.optim.perturbation import Perturbation
from sam_bench.optim.running_stats import RunningStats
from sam_bench.optim.vector import Vector
from sam_bench.training.loop import Trainer

COLUMNS = ("step", "epoch", "norm_g", "norm_g_s", "norm_direction", "cos_g", "cos_g_s", "cos_g_after_g_s",
           "cos_direction_g_s")  # fmt: skip


class WatchedTrainer(Trainer):
    """Trains exactly like its parent; `rows` gets the results of two extra passes per watched step.

    Every `every`-th step and the one after it are watched, because cosines (columns `cos_*`) need two steps in a row.
    `rho` is the radius of `g_s`, the same for all methods. The extra passes use the batch and the random numbers of the
    step. They do not change weights, running statistics or generators.
    """

    every, rho = 7, 0.05

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.rows: list[dict[str, float]] = []
        self._before: tuple[int, Vector, Vector] | None = None
        self._perturbation, self._statistics = Perturbation(), RunningStats(self.model)
        self._direction: Vector | None = None
        self._keep_directions()

    def _keep_directions(self) -> None:
        """Copy the direction of each watched step before the base gets it: a base with momentum may overwrite it."""
        direction = self.optimizer.direction

        def kept(oracle):
            found = direction(oracle)
            if self.step % self.every <= 1:
                self._direction = Vector(part.float().clone() for part in found.dense())
            return found

        self.optimizer.direction = kept  # type: ignore[method-assign] # the one optimizer of this run

    def _step(self, index: Tensor) -> None:
        step, epoch = self.step, self.position
        if step % self.every > 1:
            super()._step(index)
            return
        g, g_s = self._look(index)
        super()._step(index)
        direction = self._direction
        assert direction is not None  # the step has set it
        row = {"step": step, "epoch": epoch, "norm_g": g.norm().item(), "norm_g_s": g_s.norm().item()}
        row |= {"norm_direction": direction.norm().item(), "cos_direction_g_s": cosine(direction, g_s)}
        if self._before is not None and self._before[0] == step - 1:
            _, last_g, last_g_s = self._before
            row |= {"cos_g": cosine(g, last_g), "cos_g_s": cosine(g_s, last_g_s)}
            row |= {"cos_g_after_g_s": cosine(g, last_g_s)}
        self._before = (step, g, g_s)
        self.rows.append({name: row.get(name, math.nan) for name in COLUMNS})

    @torch.no_grad()
    def _look(self, index: Tensor) -> tuple[Vector, Vector]:
        """Compute `g` and `g_s` of the next step."""
        self._seed_draws()
        batch = self.task.collate(index, train=True, generator=self.draws)
        closure, before, state = self.closure_of(batch), self._statistics.copy(), rng_state(self.device)
        found: list[Vector] = []
        for eps in (None, "ascent"):
            ascent = None if eps is None else found[0] * (self.rho / found[0].norm().clamp(min=1e-30))
            for p in self.optimizer.params:
                p.grad = None
            with rng_of(state, self.device), self._perturbation(self.optimizer.params, ascent):
                torch.enable_grad()(closure)()
            found.append(self._gradient(1.0 if self.scaler is None else 1.0 / self.scaler.get_scale()))
            self._statistics.put_back(before)
        for p in self.optimizer.params:
            p.grad = None
        return found[0], found[1]

    def _gradient(self, scale: float = 1.0) -> Vector:
        """A copy of the gradients of the parameters."""
        params = self.optimizer.params
        parts = [torch.zeros_like(p) if p.grad is None else p.grad * scale for p in params]
        return Vector(part.detach().float() for part in parts)


def cosine(one: Vector, other: Vector) -> float:
    """Cosine of the angle between two vectors; NaN if one is zero."""
    lengths = (one.norm() * other.norm()).item()
    return (one @ other).item() / lengths if lengths > 0 else math.nan
