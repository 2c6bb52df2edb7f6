"""Every method of configs/optimizer on a small problem: what the tests of the contract are parametrised over."""

import copy

import torch
from torch import nn

from sam_bench.config.files import config_dir
from sam_bench.optim import create_optimizer
from sam_bench.optim.create import option_names
from sam_bench.optim.vector import Vector

METHODS = sorted(path.stem for path in (config_dir() / "optimizer").glob("*.yaml"))
EPOCH, TOTAL = 3, 24
BASES = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4),
    "adam": lambda params: torch.optim.Adam(params, lr=1e-2),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1),
}
# So small that each kind of step comes up within a dozen.
SMALL = {"vsam": {"K": 4, "M": 2, "last": 2, "steps_per_epoch": 1}, "ae_looksam": {"lambda_1": -1.0, "lambda_2": 1.0}}
# Without perturbation the method is the base: rho = 0, and what else an option adds to the gradient.
NEUTRAL = {
    "gsam": {"alpha": 0.0},
    "ausam": {"alpha": 1.0},
    "esam": {"gamma": 1.0},
    **{name: {"alpha": 0.0} for name in METHODS if "looksam" in name},
    **{name: {"weigh_loss": False} for name in METHODS if name.startswith("graphsam_reference")},
}


def net(seed: int = 0, norm: bool = False, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    middle = [nn.BatchNorm1d(8)] if norm else []
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def batch(step: int, n: int = 12, dtype: torch.dtype = torch.float32, device: str = "cpu"):
    """The samples of a step; an epoch holds EPOCH batches and its order never changes."""
    generator = torch.Generator().manual_seed(1000 + step % EPOCH)
    x = torch.randn(n, 6, generator=generator).to(dtype)
    y = torch.randint(0, 3, (n,), generator=generator)
    return x.to(device), y.to(device), (step % EPOCH) * n + torch.arange(n)


class Closure:
    """Forward and backward on one batch; counts its calls and can do mischief in a chosen one."""

    def __init__(self, model: nn.Module, step: int, mischief=None, at: int = 0, **data):
        self.model, self.calls, self.mischief, self.at = model, 0, mischief, at
        self.x, self.y, self.samples = batch(step, **data)

    def __call__(self, index=None, backward=True):
        x, y = (self.x, self.y) if index is None else (self.x[index], self.y[index])
        losses = nn.functional.cross_entropy(self.model(x).float(), y, reduction="none")
        if backward:
            losses.mean().backward()
        if self.mischief is not None and self.calls == self.at:
            losses = self.mischief(self.model, losses)
        self.calls += 1
        return losses.detach()


def make(name: str, model: nn.Module, base="momentum", **options):
    """The method `name` with options that fit the small problem."""
    options = {"total_steps": TOTAL, "steps_per_epoch": EPOCH, **SMALL.get(name, {}), **options}
    return create_optimizer(name, BASES.get(base, base), model, **options)


def train(optimizer, model: nn.Module, steps: int, start: int = 0, **data) -> list[Closure]:
    closures = []
    for step in range(start, start + steps):
        closure = Closure(model, step, **data)
        optimizer.step(closure, samples=closure.samples)
        closures.append(closure)
    return closures


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def frozen(value):
    """A deep copy of a state, to compare with later."""
    return copy.deepcopy(value)


def same(a, b) -> bool:
    """Bit equality of nested states."""
    if isinstance(a, Vector):
        return isinstance(b, Vector) and same(a.dense(), b.dense())
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def has_option(name: str, option: str) -> bool:
    return option in option_names(type(make(name, net())))
