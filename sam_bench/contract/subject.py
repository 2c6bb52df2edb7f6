"""An optimizer under check: how to create it on the small problem, what it takes, and what it claims."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.api import Method
from sam_bench.contract.problem import BASES, EPOCH, TOTAL, Closure, net
from sam_bench.errors import UsageError, did_you_mean
from sam_bench.optim import SharpnessAware, create_optimizer
from sam_bench.optim.accumulation import accepts
from sam_bench.optim.base import Common
from sam_bench.optim.claims import Claims
from sam_bench.optim.create import option_names


class Plain:
    """A torch optimizer, used as in its documentation: clear gradients, one closure, `step`; no base, no model."""

    claims = Claims(passes=lambda optimizer, steps, n: steps)

    def __init__(self, inner: Optimizer, scaler: torch.amp.GradScaler | None = None):
        self.inner, self.scaler = inner, scaler

    def step(self, closure: Callable[[], Tensor]) -> Any:
        """One update; with a scaler, as in torch's recipe for mixed precision."""
        if self.scaler is None:
            return self.inner.step(lambda: self._cleared(closure).mean().item())
        loss = self._cleared(closure)
        self.scaler.step(self.inner)
        self.scaler.update()
        return loss

    def _cleared(self, closure: Callable[[], Tensor]) -> Tensor:
        self.inner.zero_grad()
        with torch.enable_grad():
            return closure()

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # during unpickling
            raise AttributeError(name)
        return getattr(self.inner, name)


@dataclass(frozen=True)
class Subject:
    """What `target` makes, with `options`.

    `target` is the stem of a YAML file of configs/optimizer, a class or function called as `target(base, model,
    **options)`, or a class of torch optimizers, called as `target(params, **options)`. The options that the class
    claims to be `small` stand above those of a YAML (`defaults`) and below those that were asked for (`options`).
    `over` are the bases of the points that are checked over several.
    """

    target: Any
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    over: tuple[str, ...] = tuple(BASES)

    @classmethod
    def of(cls, target: Any, name: str | None = None, options: Mapping[str, Any] | None = None,
           defaults: Mapping[str, Any] | None = None) -> "Subject":  # fmt: skip
        """The subject; raises UsageError if the target cannot be created with these options, and says why."""
        named = name or str(target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__))
        subject = cls(target, named, dict(options or {}), dict(defaults or {}))
        try:
            subject.make(net())
        except UsageError:
            raise
        except Exception as error:
            if isinstance(error, TypeError) and (
                found := re.search(r"unexpected keyword argument '(\w+)'", str(error))
            ):
                raise UsageError(subject._lacks(found[1])) from error
            raise UsageError(
                f"{subject.call} raised {type(error).__name__}: {error}. An optimizer that is made in another way "
                "needs an adapter: docs/check.md has one of ten lines."
            ) from error
        return subject

    def _lacks(self, option: str) -> str:
        """What to say of an option that the constructor does not take."""
        if option in Common.__annotations__ and option not in {**self.options, **self.defaults}:
            return (
                f"{self.name} does not take {option}=, which every run gives it: let its constructor take **common and "
                "pass it on, super().__init__(base, model, rho=rho, **common)."
            )
        ours = isinstance(self.target, type) and issubclass(self.target, SharpnessAware)
        known = option_names(self.target) if ours else _named(self.target)
        return f"{self.name} has no option {option!r}. {did_you_mean(option, sorted(known))}"

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def plain(self) -> bool:
        """Whether it is a plain torch optimizer, created from parameters alone."""
        target = self.target
        if not (isinstance(target, type) and issubclass(target, Optimizer)) or issubclass(target, SharpnessAware):
            return False
        return next(iter(inspect.signature(target).parameters), "") == "params"

    @property
    def call(self) -> str:
        """The call that creates it, as text."""
        return f"{self.name}({'params' if self.plain else 'base, model'}, **options)"

    @property
    def bases(self) -> tuple[str, ...]:
        """The base optimizers for the checks."""
        return ("itself",) if self.plain else self.over

    @cached_property
    def kind(self) -> type:
        """The class of the optimizer."""
        model = net()
        return type(self._built(BASES["sgd"](model.parameters()), model, {}))

    @property
    def ours(self) -> bool:
        """Whether it is a SharpnessAware, which counts its passes and skips steps that are not finite."""
        return issubclass(self.kind, SharpnessAware)

    @property
    def claims(self) -> Claims:
        """Its claims; empty if it states none. torch's own optimizers take one pass a step."""
        if own := getattr(self.target, "claims", None):
            return cast(Claims, own)
        if self.plain and not self.target.__module__.startswith("torch."):
            return Claims()
        return getattr(self.kind, "claims", None) or Claims()

    @cached_property
    def takes(self) -> frozenset[str]:
        """The names of its options."""
        if self.plain:
            return frozenset({*_named(self.target), "scaler"})
        return frozenset(option_names(self.kind)) if self.ours else frozenset(_named(self.target))

    # -- making and driving it -------------------------------------------------------------------------------------

    def make(self, model: nn.Module, base: Any = "momentum", **options: Any) -> Any:
        """Create it on `model`, around a base of that name or an existing one."""
        if isinstance(base, str) and not self.plain:
            base = BASES[base](model.parameters())
        return self._built(base, model, options)

    def neutral(self, model: nn.Module, base: Any = "momentum", **options: Any) -> Any:
        """Create it without perturbation: rho = 0, and the other options that it claims to be neutral."""
        return self.make(model, base, **{"rho": 0.0, **self.claims.neutral, **options})

    def train(self, optimizer: Method, model: nn.Module, steps: int, start: int = 0, **data: Any) -> list[Closure]:
        """Make this many steps; returns their closures."""
        closures = [Closure(model, step, **data) for step in range(start, start + steps)]
        for closure in closures:
            self.step(optimizer, closure)
        return closures

    def step(self, optimizer: Method, closure: Any) -> Any:
        """Make one step, with the positions of the samples if it takes them."""
        if isinstance(optimizer, SharpnessAware) or accepts(optimizer.step, "samples"):
            return optimizer.step(closure, samples=closure.samples)
        return optimizer.step(closure)

    def _built(self, base: Any, model: nn.Module, options: Mapping[str, Any]) -> Any:
        given = {**self.defaults, **self._small, **self.options, **options}
        if self.plain:
            scaler = given.pop("scaler", None)
            return Plain(self.target(model.parameters(), **given), scaler)
        lengths = {"total_steps": TOTAL, "steps_per_epoch": EPOCH}
        if isinstance(self.target, str):
            return create_optimizer(self.target, base, model, **{**lengths, **given})
        if not _is_ours(self.target):
            lengths = {key: value for key, value in lengths.items() if key in _named(self.target)}
        return self.target(base, model, **{**lengths, **given})

    @cached_property
    def _small(self) -> Mapping[str, Any]:
        target = self.target
        if isinstance(target, str):
            model = net()
            target = type(create_optimizer(target, "sgd", model, total_steps=TOTAL, steps_per_epoch=EPOCH))
        return getattr(target, "claims", Claims()).small


def _is_ours(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, SharpnessAware)


def _named(target: Any) -> set[str]:
    """The names of the arguments of a call, without `**`."""
    return {p.name for p in inspect.signature(target).parameters.values() if p.kind is not p.VAR_KEYWORD}
