"""The gradient oracle: everything that is hard in a sharpness-aware step, written once.

`oracle()` is the gradient of the mini-batch at `w`, `oracle(eps)` the one at `w + eps`. Each call is one counted
forward-backward pass.
"""

import numbers
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sam_bench.optim import distributed, leftovers
from sam_bench.optim.accumulation import Closure, accepts
from sam_bench.optim.vector import Vector, wide
from sam_bench.optim.wrapper import Wrapper


def _own(g: Tensor, p: Tensor) -> Tensor:
    """The gradient `g` of `p`, or a copy if it is a view into a larger tensor: the next pass overwrites DDP's buckets.

    It gets the strides of `p` if only those of dimensions of size 1 differ, as for 1x1 convolutions. Else the
    arithmetic on lists would start one kernel per tensor.
    """
    own = g.clone() if g._is_view() else g
    if own.stride() == p.stride() or any(
        n > 1 and a != b for n, a, b in zip(p.shape, own.stride(), p.stride(), strict=True)
    ):
        return own
    return own.as_strided(p.shape, p.stride())


@contextmanager
def rng_of(state: list[Tensor] | None, device: torch.device) -> Iterator[None]:
    """A context in which torch's generators start from `state`; with None they are left alone."""
    if state is None:
        yield
        return
    now = rng_state(device)
    set_rng_state(state, device)
    try:
        yield
    finally:
        set_rng_state(now, device)


def rng_state(device: torch.device) -> list[Tensor]:
    """The state of torch's generators on the CPU and on `device`."""
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def set_rng_state(state: list[Tensor], device: torch.device) -> None:
    """Set torch's generators to `state`, which `rng_state` returned."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


def _sum(loss: Tensor) -> Tensor:
    """The sum of the losses, in float32 at least: in fp16 that of many finite losses would be infinite."""
    return loss.sum(dtype=wide(loss.dtype))


class Oracle:
    """The gradients of one step. `losses` holds what the closure returned in each pass, detached."""

    def __init__(self, optimizer: Wrapper, closure: Closure, samples: Tensor | None):
        self.optimizer, self.closure, self.samples = optimizer, closure, samples
        self.params = optimizer.params
        self.device = self.params[0].device
        self._narrow = any(p.dtype != wide(p.dtype) for p in self.params)
        self.losses: list[Tensor] = []
        self.plain = self.perturbed = 0
        self._full = self._samples = self._forwards = 0
        self._first_losses: list[Tensor] = []
        self.touched = [False] * len(self.params)
        self.stats = optimizer.running_stats
        self._stats_before = self.stats.copy()
        self._stats_first: list[Tensor] | None = None  # after the first pass; copied only if there is a second
        self._flags: list[Tensor] = []
        self._draws = rng_state(self.device) if optimizer.same_dropout else None
        self._scale: Tensor | None = None  # on the device, read together with the flags
        if optimizer.scaler is not None:
            self._scale = optimizer.scaler.scale(torch.ones((), device=self.device))
        self._read_scale: float | None = None

    # -- passes ------------------------------------------------------------------------------------------------

    def __call__(self, eps: Vector | None = None, index: Tensor | None = None) -> Vector:
        """The gradient at `w + eps`, on the samples `index` of the batch (all of them by default).

        Raises RuntimeError if no parameter receives a gradient.
        """
        return self._pass(eps, index, moves=not self.losses)

    def pieces(self, indices: Sequence[Tensor | None]) -> list[Vector]:
        """The gradients at `w` on the pieces of the batch; together they are the first pass of the step."""
        return [self._pass(None, index, moves=True) for index in indices]

    def losses_at(self, eps: Vector) -> Tensor:
        """The loss of each sample (n,) at `w + eps`; only a forward pass if the closure takes `backward`."""
        if not accepts(self.closure, "backward"):
            self._pass(eps, None, moves=False)
            return self.losses[-1]
        self._forwards += 1
        loss = self._run(eps, {"backward": False}, moves=False, grad=False)
        self._flags.append(_sum(loss))
        return loss

    def _pass(self, eps: Vector | None, index: Tensor | None, moves: bool) -> Vector:
        """One counted forward-backward that starts from cleared gradients."""
        arguments = {} if index is None else {"index": index}
        if self.losses:
            for p in self.params:
                p.grad = None
            loss = self._run(eps, arguments, moves=moves, grad=True)
        else:
            with leftovers.cleared(self.params, self.optimizer.model, type(self.optimizer).__name__):
                loss = self._run(eps, arguments, moves=moves, grad=True)
        self.losses.append(loss)
        if moves:
            self._first_losses.append(loss if index is None or loss.ndim else loss.expand(len(index)))
        self.plain += eps is None
        self.perturbed += eps is not None
        self._full += index is None
        self._samples += 0 if index is None else len(index)
        g = self._take_gradient()
        self._flags += [_sum(loss), g.norm()]
        return g

    def _run(self, eps: Vector | None, arguments: dict[str, Any], *, moves: bool, grad: bool) -> Tensor:
        """Call the closure at `w + eps`; the running statistics change only if `moves` is true."""
        draws = self._draws if self.losses else None
        if not moves and self._stats_first is None:
            self._stats_first = self.stats.copy()
        local = distributed.local_passes(self.optimizer.model, self.optimizer.local_passes)
        with (
            self.optimizer.perturbation(self.params, eps),
            rng_of(draws, self.device),
            local,
            torch.set_grad_enabled(grad),
        ):
            loss = self.closure(**arguments)
        if self._stats_first is not None:
            self.stats.put_back(self._stats_first)
        if not isinstance(loss, Tensor | numbers.Number):
            what = "None" if loss is None else f"a {type(loss).__name__}"
            raise TypeError(f"the closure returned {what}: let it return the loss (a scalar, or one value per sample)")
        return torch.as_tensor(loss, device=self.device).detach()

    def _take_gradient(self) -> Vector:
        """Take the gradients from the parameters, without a copy; zeros for a parameter that has none."""
        grads = [p.grad for p in self.params]
        if any(g is not None and g.layout is not torch.strided for g in grads):
            raise TypeError("sparse gradients are not supported: build the embedding with sparse=False")
        if all(g is None for g in grads):
            raise RuntimeError(self._no_gradient())
        self.touched = [t or g is not None for t, g in zip(self.touched, grads, strict=True)]
        parts = [torch.zeros_like(p) if g is None else _own(g, p) for p, g in zip(self.params, grads, strict=True)]
        for p in self.params:
            p.grad = None
        if self._narrow:
            parts = [g.to(wide(g.dtype)) for g in parts]
        if self._scale is not None:
            torch._foreach_mul_(parts, self._scale.reciprocal())
        return Vector(parts)

    def _no_gradient(self) -> str:
        names = {id(p): name for name, p in self.optimizer.model.named_parameters()}
        shown = [names.get(id(p), f"a tensor {tuple(p.shape)}") for p in self.params[:5]]
        more = f" and {len(self.params) - 5} more" if len(self.params) > 5 else ""
        return (
            f"no parameter received a gradient in pass {len(self.losses)}: {', '.join(shown)}{more}. "
            "The closure must call loss.backward(), on a loss of this model's output, and something must be trainable"
        )

    # -- the step as a whole -----------------------------------------------------------------------------------

    @property
    def loss(self) -> Tensor:
        """The loss of the first pass, a scalar on the device."""
        first = self._first_losses
        return first[0].mean() if len(first) == 1 else torch.cat([loss.reshape(-1) for loss in first]).mean()

    @property
    def n(self) -> int:
        """Number of samples in the batch; raises ValueError if it is unknown."""
        if self.samples is not None:
            return len(self.samples)
        if self.losses and self.losses[0].ndim == 1:
            return len(self.losses[0])
        raise ValueError(
            f"{type(self.optimizer).__name__} chooses samples of the batch: pass step(closure, samples=...), the "
            "positions (n,) of the batch in the training set, or let the closure return one loss per sample"
        )

    def require_index(self) -> None:
        """Raise TypeError unless the closure can compute a choice of samples."""
        if not accepts(self.closure, "index"):
            raise TypeError(
                f"{type(self.optimizer).__name__} chooses samples of the batch: let the closure take index=None "
                "(LongTensor into the batch) and compute only those samples"
            )

    @property
    def grad_evals(self) -> float:
        """Forward-backward passes in units of the full batch; a forward pass alone counts as a third."""
        passes = self._full + self._samples / self.n if self._samples else self._full
        return passes + self._forwards / 3 if self._forwards else passes

    def finite(self, direction: Vector) -> bool:
        """Whether all losses, all gradients and `direction` are finite on all ranks; the only wait for the device."""
        bound = direction.known_bound
        flags = [*self._flags, torch.as_tensor(direction.norm() if bound is None else bound, device=self.device)]
        if self._scale is not None:
            flags.append(self._scale)
        dtype = self._flags[-1].dtype
        finite, values = distributed.all_finite(torch.stack([flag.to(dtype) for flag in flags]))
        if self._scale is not None and values:
            self._read_scale = values[-1]
        return finite

    @property
    def scale(self) -> float:
        """The loss scale of this step; waits for the device unless `finite` has read it."""
        if self._scale is None:
            return 1.0
        return self._scale.item() if self._read_scale is None else self._read_scale

    def undo(self) -> None:
        """Restore the running statistics from before the step and drop the gradients."""
        self.stats.put_back(self._stats_before)
        for p in self.params:
            p.grad = None
