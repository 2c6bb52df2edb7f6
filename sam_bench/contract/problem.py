"""The small problem for checking optimizers: a network of two layers, three batches per epoch, four bases."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim.vector import Vector

EPOCH, TOTAL, SAMPLES = 3, 24, 12  # steps of an epoch and of a training, samples in a batch
BASES: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4),
    "adam": lambda params: torch.optim.Adam(params, lr=1e-2),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1),
}
T = TypeVar("T")
Mischief = Callable[[nn.Module, Tensor], Tensor]


def net(seed: int = 0, norm: nn.Module | bool = False, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """6 -> 8 -> 3 with weights drawn by `seed`; `norm` is a layer between, or BatchNorm."""
    torch.manual_seed(seed)
    first = nn.Linear(6, 8)
    middle = [nn.BatchNorm1d(8)] if norm is True else [norm] if norm else []
    return nn.Sequential(first, *middle, nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def batch(step: int, n: int = SAMPLES, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Tensor, ...]:
    """Inputs (n, 6), classes (n,) and positions (n,) of a step; the order of an epoch never changes."""
    generator = torch.Generator().manual_seed(1000 + step % EPOCH)
    x = torch.randn(n, 6, generator=generator).to(dtype)
    y = torch.randint(0, 3, (n,), generator=generator)
    return x.to(device), y.to(device), (step % EPOCH) * n + torch.arange(n)


class Closure:
    """Forward and backward on one batch; counts its calls and can do `mischief` in the call numbered `at`.

    It takes `index` and `backward` as the closures of methods that choose samples do, and returns the loss of each
    sample. With `scaler` the scaled loss is differentiated, in call `at` after a multiplication by `factor`.
    """

    def __init__(self, model: nn.Module, step: int, mischief: Mischief | None = None, at: int = 0, *,
                 scaler: torch.amp.GradScaler | None = None, factor: float = 1.0, **data: Any):  # fmt: skip
        self.model, self.calls, self.mischief, self.at = model, 0, mischief, at
        self.scaler, self.factor = scaler, factor
        self.x, self.y, self.samples = batch(step, **data)

    def __call__(self, index: Tensor | None = None, backward: bool = True) -> Tensor:
        """The losses (n,), detached."""
        x, y = (self.x, self.y) if index is None else (self.x[index], self.y[index])
        losses = nn.functional.cross_entropy(self.model(x).float(), y, reduction="none")
        if backward:
            loss = losses.mean() * (self.factor if self.calls == self.at else 1.0)
            torch.autograd.backward(loss if self.scaler is None else self.scaler.scale(loss))
        if self.mischief is not None and self.calls == self.at:
            losses = self.mischief(self.model, losses)
        self.calls += 1
        return losses.detach()


class Backwards(Closure):
    """Counts only the calls that differentiate: mischief with gradients is of no use in a forward pass alone."""

    def __call__(self, index: Tensor | None = None, backward: bool = True) -> Tensor:
        """The losses (n,), detached."""
        losses = super().__call__(index, backward)
        self.calls -= not backward
        return losses


def weights(model: nn.Module) -> Tensor:
    """All parameters as one new tensor (N,)."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def gap(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of any weight of two models."""
    return (weights(a).double() - weights(b).double()).abs().max().item()


def frozen(value: T) -> T:
    """A deep copy of a state, to compare with later."""
    return copy.deepcopy(value)


def same(a: Any, b: Any) -> bool:
    """Bit equality of nested states."""
    if isinstance(a, Vector):
        return isinstance(b, Vector) and same(a.dense(), b.dense())
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
