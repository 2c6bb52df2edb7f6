"""Gradient accumulation: every pass of a step must see all micro-batches, so one closure runs them all."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Closure = Callable[..., Any]  # () -> the loss, a tensor or a number; some take `index` and `backward` too


class Accumulation:
    """One closure that runs one closure for each micro-batch; its gradient is that of the mean over all samples.

    It takes `index` or `backward` if all of `closures` do; `index` counts the samples of all micro-batches in turn. A
    DistributedDataParallel model synchronises at each backward; all closures but the last may use its `no_sync()`.

    Args:
        closures: each runs forward and backward on its micro-batch and returns the loss. It differentiates the mean
            over its *own* samples; it must not divide by the number of micro-batches or clear gradients.
        params: the parameters whose gradients are accumulated.
        sizes: number of samples (or tokens) of each micro-batch, which weigh the means; None: all are equal. All ranks
            must have the same sizes.

    Raises TypeError if a closure is not callable, ValueError if `sizes` does not fit `closures`.
    """

    def __init__(self, closures: Sequence[Closure], params: Sequence[Tensor], sizes: Sequence[int] | None = None):
        if not closures or not all(callable(closure) for closure in closures):
            raise TypeError(f"step takes a closure or a list with one closure for each micro-batch, not {closures!r}")
        if sizes is not None and (len(sizes) != len(closures) or not all(size > 0 for size in sizes)):
            raise ValueError(f"sizes must have a number above 0 for each of the {len(closures)} closures, got {sizes}")
        self.closures, self.params, self.sizes = closures, params, sizes
        taken = [name for name in ("index", "backward") if all(accepts(closure, name) for closure in closures)]
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in taken]
        self.__signature__ = inspect.Signature(parameters)

    def __call__(self, index: Tensor | None = None, backward: bool = True) -> Tensor | None:
        """Run all micro-batches; the losses per sample (n,) if the closures return these, else the weighted mean."""
        losses: list[Tensor] = []
        weights: list[float] = []
        for closure, weight, arguments in self._parts(index):
            if backward and weights:
                self._scale(weights[-1] / weight)
            loss = self._run(closure, arguments if backward else {**arguments, "backward": False})
            if loss is None:
                return None
            losses.append(torch.as_tensor(loss).detach())
            weights.append(weight)
        if backward:
            self._scale(weights[-1] / sum(weights))
        if any(loss.ndim == 0 for loss in losses):
            shares = torch.tensor(weights) / sum(weights)
            return (torch.stack([loss.mean() for loss in losses]) * shares.to(losses[0])).sum()
        return self._per_sample(losses, index)

    def _parts(self, index: Tensor | None) -> Iterator[tuple[Closure, float, dict[str, Any]]]:
        """The closures to call, with weights and arguments; a micro-batch without a chosen sample is left out."""
        if index is None:
            for closure, size in zip(self.closures, self.sizes or [1] * len(self.closures), strict=True):
                yield closure, size, {}
            return
        for closure, (own, start) in zip(self.closures, self._owners(index), strict=True):
            if count := int(own.sum()):
                yield closure, count, {"index": index[own] - start}

    def _run(self, closure: Closure, arguments: dict[str, Any]) -> Any:
        before = [p.grad for p in self.params]
        loss = closure(**arguments)
        if any(g is not None and g is not p.grad for p, g in zip(self.params, before, strict=True)):
            raise RuntimeError(
                "the closure of a micro-batch cleared the gradients of those before it: leave zero_grad() out of it"
            )
        return loss

    def _owners(self, index: Tensor) -> Iterator[tuple[Tensor, int]]:
        """For each micro-batch: a mask of the entries of `index` in it (n,), and the number of its first sample."""
        if self.sizes is None:
            raise ValueError("the method chooses samples: optimizer.accumulate(closures, sizes=...) must say how many")
        start = 0
        for size in self.sizes:
            yield (index >= start) & (index < start + size), start
            start += size

    def _per_sample(self, losses: list[Tensor], index: Tensor | None) -> Tensor:
        """The losses of the whole batch (n,), or of the samples `index` in their order."""
        together = torch.cat(losses)
        if index is not None:
            return together[torch.cat([own.nonzero() for own, _ in self._owners(index)]).squeeze(1).argsort()]
        counts = [len(loss) for loss in losses]
        if self.sizes is None and len(set(counts)) > 1:
            raise ValueError(f"the micro-batches differ in size: use optimizer.accumulate(closures, sizes={counts})")
        self.sizes = self.sizes or counts
        return together

    @torch.no_grad()
    def _scale(self, factor: float) -> None:
        grads = [p.grad for p in self.params if p.grad is not None]
        if factor != 1.0 and grads:
            torch._foreach_mul_(grads, factor)


def accepts(closure: Closure, name: str) -> bool:
    """Whether `closure` takes an argument called `name`."""
    try:
        parameters = inspect.signature(closure).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
