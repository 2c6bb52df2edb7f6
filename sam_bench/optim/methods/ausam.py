"""AUSAM, SAM on asymptotically unbiased samples (arXiv 2406.08001); the rule is that of the authors' code."""

import warnings
from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim.arguments import check_options
from sam_bench.optim.base import TINY, Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector
from sam_bench.optim.when import Always
from sam_bench.options import method

RAMP_EPOCHS = 30


class AUSAM(SAM):
    """SAM on `int(alpha*|B|)` random samples of the batch. Cost `2*alpha`.

    Samples whose loss the perturbation changes more are drawn with a higher probability. Epoch 0 takes the full batch.
    Later epochs draw without replacement, with `p_i` proportional to `f_min + (f_max(e)-f_min)*(a_i-min)/(max-min)`
    over the batch. `a_i` is the running mean of `|l_i(w+eps) - l_i(w)|`. `f_max(e)` rises linearly from `f_min` to
    `f_max` at epoch 30. Both passes run on the drawn samples, with a plain mean.

    Args:
        alpha: share of the batch that is drawn.
        f_min: weight of the sample whose loss changes least.
        f_max: weight of the sample whose loss changes most, from epoch 30 on.

    `step` needs `samples`, the positions of the batch in the training set. Without them a sample is identified by its
    place in the epoch. This is right only if the order never changes; a warning says so. Raises TypeError if the
    closure takes no `index`, ValueError if it does not return a loss per sample, or without steps_per_epoch.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: (
            2 * min(steps, optimizer.steps_per_epoch)
            + 2 * int(optimizer.alpha * n) / n * max(0, steps - optimizer.steps_per_epoch)
        ),
        neutral={"alpha": 1.0},
        limits=(Limit({"alpha": 1.0}, "sam"),),
        one_process=False,
    )

    chooses_samples = True

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, alpha: float = 0.5, f_min: float = 0.1,
        f_max: float = 0.5, **common: Unpack[Common],
    ):  # fmt: skip
        super().__init__(base, model, rho=rho, when=Always(), **common)
        if self.m_sharpness is not None:
            raise ValueError("AUSAM chooses the samples itself: leave m_sharpness out")
        check_options(method.AUSAM, alpha=alpha, f_min=f_min, f_max=f_max)
        if f_min > f_max:
            raise ValueError(f"AUSAM needs f_min <= f_max, got {f_min} and {f_max}")
        self.needs("steps_per_epoch", "because its first epoch takes full batches")
        self.alpha, self.f_min, self.f_max = alpha, f_min, f_max

    def other_options(self, memory: Mapping[str, Any]) -> str:
        """Epochs of another length."""
        counts = memory.get("counts")
        return "" if counts is None or len(counts) == self.steps_per_epoch else f"steps_per_epoch={len(counts)}"

    def direction(self, oracle: Oracle) -> Vector:
        """`g_s` on the drawn samples."""
        oracle.require_index()
        epoch, place = divmod(self.memory["step"] + self.memory["skipped"], self.steps_per_epoch or 1)
        samples = self._known(place, oracle)
        index = None if epoch == 0 or samples is None or self.alpha == 1 else self._draw(samples, epoch, oracle.samples)
        g = oracle(index=index)
        g_s = oracle(self.ascent(g), index)
        before, after = oracle.losses
        if before.ndim != 1:
            raise ValueError("AUSAM keeps a mean per sample: let the closure return one loss per sample (n,)")
        if oracle.samples is not None and index is None and len(before) != len(oracle.samples):
            raise ValueError(
                f"samples has {len(oracle.samples)} positions, and the closure returned {len(before)} losses"
            )
        if samples is None:
            samples = self._by_place(place, len(before), oracle.device)
        self._note(samples if index is None else samples[index], (after - before).abs(), oracle.samples)
        return g_s

    # -- which samples of the training set these are -------------------------------------------------------------

    def _known(self, place: int, oracle: Oracle) -> Tensor | None:
        """Positions of the batch in the training set (n,); None if only a pass can tell the size of the batch."""
        if oracle.samples is not None:
            return oracle.samples.to(oracle.device, non_blocking=True)
        if self.memory["step"] == 0:
            warnings.warn("AUSAM got no samples=: it assumes that batch k is the same in every epoch", stacklevel=5)
        counts = self.memory.get("counts")
        return (
            None if counts is None or counts[place] == 0 else self._by_place(place, int(counts[place]), oracle.device)
        )

    def _by_place(self, place: int, n: int, device: torch.device) -> Tensor:
        counts = self.memory.get("counts", torch.zeros(self.steps_per_epoch or 1, dtype=torch.long)).cpu().clone()
        counts[place] = n
        self.memory["counts"] = counts
        start = int(counts[:place].sum())
        return torch.arange(start, start + n, device=device)

    # -- how much their losses change -----------------------------------------------------------------------------

    def _draw(self, samples: Tensor, epoch: int, given: Tensor | None = None) -> Tensor:
        """Indices into the batch of the samples to take; a function of the seed, the step and what was noted."""
        a = self._table("a", samples, given)[samples]
        spread = (a - a.min()) / (a.max() - a.min() + TINY)
        f_max = self.f_min + (self.f_max - self.f_min) * min(1.0, epoch / RAMP_EPOCHS)
        count = max(1, int(self.alpha * len(samples)))
        return torch.multinomial(self.f_min + (f_max - self.f_min) * spread, count, generator=self.generator())

    def _note(self, samples: Tensor, rise: Tensor, given: Tensor | None) -> None:
        a, seen = self._table("a", samples, given), self._table("seen", samples, given)
        seen[samples] += 1
        a[samples] += (rise.to(a.dtype) - a[samples]) / seen[samples]
        self.memory["a"], self.memory["seen"] = a, seen

    def _table(self, name: str, samples: Tensor, given: Tensor | None) -> Tensor:
        """A copy of a table over the training set, with zeros up to the largest sample of the batch.

        `given` is what `step` was given as the batch: on the CPU as a rule, where nobody waits for its largest.
        """
        table = self.memory.get(name, torch.zeros(0))
        size = max(len(table), int((samples if given is None else given).max()) + 1)
        return nn.functional.pad(table.to(samples.device), (0, size - len(table)))
