"""The mechanism: a method is a function from a gradient oracle to an update direction; this class does the rest."""

import math
import random
import warnings
from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim import arguments, distributed, leftovers
from sam_bench.optim.accumulation import Accumulation, Closure
from sam_bench.optim.loss_scale import update_scale
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector, wide
from sam_bench.optim.wrapper import Wrapper
from sam_bench.options import method

TINY = 1e-12
COUNTERS = {"step": 0, "grad_evals": 0, "sampled": 0, "skipped": 0}
SKIPS, SKIPS_SCALED = 5, 25  # skipped steps in a row before a warning; a loss scale needs some skips to find its size


class Common(TypedDict, total=False):
    """Options of every method besides `rho`, described in SharpnessAware."""

    clip_norm: float | None
    scaler: torch.amp.GradScaler | None
    same_dropout: bool
    check_finite: bool
    total_steps: int | None
    steps_per_epoch: int | None
    seed: int


class SharpnessAware(Wrapper):
    """Wraps the optimizer `base`, which makes the update; a subclass computes the `direction` of the update.

    Args:
        base: a torch optimizer, already built on the parameters.
        model: the module that the closure runs (DistributedDataParallel included). Only the first pass of a step
            updates its running statistics.
        rho: radius: the L2 norm of the perturbation; a parameter group of `base` may have its own `rho`.
        clip_norm: clip the direction to this norm, as torch's `clip_grad_norm_` does; None does not clip.
        scaler: for fp16; the closure calls `scaler.scale(loss).backward()`, and you call no other method of the scaler.
        same_dropout: use the same random numbers in every pass of a step.
        check_finite: skip a step with a NaN or infinite loss or gradient; this waits for the device once per step.
        total_steps: steps of the whole training; methods with a schedule need it.
        steps_per_epoch: methods that count epochs need it.
        seed: seed of the method's own random draws; each draw is a function of (seed, step).

    `param_groups`, `state` and `defaults` are those of `base`. `memory` holds the method's own state and the counters
    `step`, `grad_evals`, `sampled` (steps with a second gradient) and `skipped`. A method replaces the values of
    `memory` and does not change them in place, so that a failed step can be undone. Only `afterwards` may change them
    in place.
    """

    chooses_samples = False  # whether the method may compute a part of the batch and keeps numbers per sample

    def __init__(
        self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, clip_norm: float | None = None,
        scaler: torch.amp.GradScaler | None = None, same_dropout: bool = False, check_finite: bool = True,
        total_steps: int | None = None, steps_per_epoch: int | None = None, seed: int = 0,
    ):  # fmt: skip
        arguments.check_base_and_model(type(self).__name__, base, model)
        if isinstance(base, SharpnessAware):
            raise TypeError(f"base is {type(base).__name__}, itself a sharpness-aware method: pass the optimizer in it")
        # How torch makes an optimizer without parameters of its own: this sets up the hooks and the patched step only.
        self.__setstate__({"base": base, "model": model})
        arguments.check_options(method.Method, same_dropout=same_dropout, check_finite=check_finite, seed=seed)
        arguments.check_clip_norm(clip_norm)
        if scaler is not None and scaler.is_enabled() and not check_finite:
            raise ValueError("a scaler needs check_finite=True: an overflow must skip the step")
        self.default_rho, self.clip_norm, self.scaler, self.same_dropout = rho, clip_norm, scaler, same_dropout
        self.check_finite, self.seed = check_finite, seed
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.local_passes = False
        self.memory = {"method": type(self).__name__, **COUNTERS}
        self._skips_in_a_row = 0
        self._complete_groups()
        leftovers.mark(self.params)  # gradients of an earlier training are no error

    # -- what a method defines -----------------------------------------------------------------------------------

    def direction(self, oracle: Oracle) -> Vector:
        """What `base` gets as its gradient."""
        raise NotImplementedError(f"{type(self).__name__} defines no direction(self, oracle)")

    def afterwards(self, direction: Vector) -> None:
        """Update `memory` from `direction`; in place is allowed, because nothing in the step can fail any more."""

    # -- the step ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch's takes neither samples nor a list, and returns a float
        self, closure: Closure | Sequence[Closure] | None = None, samples: Tensor | None = None
    ) -> Tensor:
        """One update; returns the loss of the first pass, a scalar on the device.

        `closure()` runs forward and backward on the whole batch and returns the loss: a scalar, or one value per sample
        (n,), of which it differentiates the mean. A list of closures has one for each micro-batch, as in `accumulate`.
        Methods that choose samples pass `index` (LongTensor into the batch) to the closure; `samples` (n,) are the
        positions of the batch in the training set. After an exception in a pass, or a loss or gradient that is not
        finite, weights, base and memory are as before. After an exception in the step of the base (a hook of yours),
        vectors in memory may already be updated. Raises RuntimeError if gradients were computed before the step,
        because the step would lose them.
        """
        closure = self._one(closure)
        samples = None if samples is None else torch.as_tensor(samples)
        self._fit_memory()
        oracle = Oracle(self, closure, samples)
        before = dict(self.memory)
        try:
            direction = self.direction(oracle)
            self._check(direction, oracle)
            finite = oracle.finite(direction) if self.check_finite else True
            if finite:
                self._update(direction, oracle)
        except BaseException:
            self._undo(oracle, before)
            raise
        if not finite:
            self._undo(oracle, before)
            self.memory["skipped"] += 1
        self._warn_of_skips(finite)
        if self.scaler is not None:
            update_scale(self.scaler, self.memory, finite, oracle.scale)
        return oracle.loss

    def _check(self, direction: object, oracle: Oracle) -> None:
        """Raise TypeError or RuntimeError for mistakes of whoever writes a method."""
        name = type(self).__name__
        if not isinstance(direction, Vector):
            raise TypeError(
                f"{name}.direction returned a {type(direction).__name__}: return a Vector, as oracle() does"
            )
        if not oracle.losses:
            raise RuntimeError(f"{name}.direction took no gradient: call oracle()")
        for key, value in self.memory.items():
            if isinstance(value, Vector) and key not in self.vectors:
                raise TypeError(
                    f"memory[{key!r}] is a Vector: a checkpoint needs its name, {name}.vectors = ({key!r},)"
                )

    def _update(self, direction: Vector, oracle: Oracle) -> None:
        if self.local_passes:
            direction = direction.like(distributed.mean(direction.flat()))
        self.afterwards(direction)
        self._write_gradients(direction, oracle.touched)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.params, self.clip_norm)
        self.base.step()
        leftovers.mark(self.params)
        for name in self.vectors:
            if name in self.memory:  # in the form that a checkpoint gives back, so that a resume is bit-exact
                self.memory[name] = self.memory[name].settled()
        self.memory["step"] += 1
        self.memory["grad_evals"] += oracle.grad_evals
        self.memory["sampled"] += oracle.plain > 0 and oracle.perturbed > 0

    def _write_gradients(self, direction: Vector, touched: list[bool]) -> None:
        """Write each parameter's part of `direction` to its `.grad`; skip parameters without a gradient in any pass."""
        # If a user clips or zeroes p.grad in place, this must not change the memory.
        kept = {part.data_ptr() for v in self.memory.values() if isinstance(v, Vector) for part in v.parts}
        for p, part, has in zip(self.params, direction.dense(), touched, strict=True):
            if has and part.dtype == p.dtype and part.stride() == p.stride():
                p.grad = part.clone() if part.data_ptr() in kept else part
            elif has:
                p.grad = torch.empty_like(p).copy_(part)

    def _undo(self, oracle: Oracle, before: dict[str, Any]) -> None:
        oracle.undo()
        self.memory.clear()
        self.memory.update(before)

    def accumulate(self, closures: Sequence[Closure], sizes: Sequence[int] | None = None) -> Accumulation:
        """A closure for `step` that runs `closures`, one for each micro-batch, and takes the mean over all samples.

        `sizes` are the numbers of samples of the micro-batches; None means that all are equal. Each closure
        differentiates the mean over its own samples and does not divide by the number of micro-batches.
        """
        return Accumulation(closures, self.params, sizes)

    def _one(self, closure: Closure | Sequence[Closure] | None) -> Closure:
        """The argument of `step` as one closure, after a check."""
        name = type(self).__name__
        if closure is None:
            raise TypeError(f"{name}.step needs a closure: def closure(): loss = ...; loss.backward(); return loss")
        if isinstance(closure, list | tuple):
            closure = self.accumulate(closure)
        if not callable(closure):
            raise TypeError(f"{name}.step needs a function, or a list of functions, not {closure!r}")
        code = getattr(arguments.inner_function(closure), "__code__", None)
        if self.scaler is None and code is not self._seen_code:  # check each function once, not at each step
            arguments.refuse_lonely_scaler(name, closure)
            self._seen_code = code
        return closure

    def _warn_of_skips(self, finite: bool) -> None:
        self._skips_in_a_row = 0 if finite else self._skips_in_a_row + 1
        if self._skips_in_a_row == (SKIPS if self.scaler is None else SKIPS_SCALED):
            warnings.warn(
                f"{type(self).__name__} skipped {self._skips_in_a_row} steps in a row: a loss or gradient was NaN or "
                "infinite in each, and the weights do not move. Look at the loss that step returns; usual causes are "
                "bad values in the data, a learning rate or rho that is too large, and fp16 without scaler=",
                stacklevel=5,
            )

    # -- helpers of the methods ----------------------------------------------------------------------------------

    @property
    def weights(self) -> Vector:
        """`w`: the parameters themselves, not a copy."""
        return Vector(p.detach().to(wide(p.dtype)) for p in self.params)

    def rhos(self) -> list[float]:
        """The radius of each group at this step."""
        return [group["rho"] for group in self.param_groups]

    def times_rho(self, v: Vector) -> Vector:
        """`rho * v`, with the rho of each group."""
        rhos = self.rhos()
        if all(rho == rhos[0] for rho in rhos):
            return v * rhos[0]
        return v * [rho for rho, group in zip(rhos, self.param_groups, strict=True) for _ in group["params"]]

    def to_radius(self, d: Vector) -> Vector:
        """`rho * d/||d||`; the norm is over all parameters, and each group has its own rho."""
        return self.times_rho(d / (d.norm() + TINY))

    def draws(self) -> random.Random:
        """A random generator for this step, seeded by (seed, step), so it is equal on all ranks and after a resume."""
        return random.Random(f"{type(self).__name__} {self.seed} {self.memory['step']}")

    def generator(self) -> torch.Generator:
        """The same as a torch generator, on the device of the parameters."""
        return torch.Generator(self.params[0].device).manual_seed(self.draws().getrandbits(63))

    def noise(self) -> Vector:
        """Normal noise whose expected squared length is 1; frozen parameters get none."""
        generator, parts = self.generator(), []
        for p in self.params:
            part = torch.zeros(p.shape, dtype=wide(p.dtype), device=p.device)
            parts.append(part.normal_(generator=generator) if p.requires_grad else part)
        return Vector(parts) / math.sqrt(self.trained)

    @property
    def trained(self) -> int:
        """Number of weights that are not frozen."""
        return max(1, sum(p.numel() for p in self.params if p.requires_grad))

    def needs(self, name: str, why: str) -> int:
        """The option `name` (total_steps or steps_per_epoch); raises ValueError if it was not given."""
        value = getattr(self, name)
        if value is None or value < 1:
            raise ValueError(f"{type(self).__name__} needs {name}= (at least 1), {why}; got {value}")
        return arguments.whole_number(name, value)

    @property
    def sam_fraction(self) -> float:
        """Share of the steps that computed a second gradient."""
        return float(self.memory["sampled"] / max(1, self.memory["step"]))
