"""A torch.optim.Optimizer that delegates to another one and saves the state of both."""

from collections import defaultdict
from collections.abc import Mapping
from types import CodeType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.optim import arguments, leftovers
from sam_bench.optim.perturbation import Perturbation
from sam_bench.optim.running_stats import RunningStats
from sam_bench.optim.vector import Vector, wide


class Wrapper(Optimizer):
    """An optimizer with the groups, state and defaults of `base`; its state dict also has its own `memory`."""

    base: Optimizer
    model: nn.Module
    default_rho: float
    scaler: torch.amp.GradScaler | None
    same_dropout: bool
    local_passes: bool  # each rank keeps its own gradients; the direction is averaged over the ranks
    memory: dict[str, Any]
    vectors: tuple[str, ...] = ()  # entries of memory that are vectors over all parameters
    running_stats: RunningStats
    perturbation: Perturbation
    _seen_code: CodeType | None = None  # code of the last closure that was checked

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Check the form of the call first: a TypeError from the constructor's signature would not say what to do."""
        arguments.refuse_other_forms(cls.__name__, args, options)
        return super().__new__(cls)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # torch has an attribute
        """Those of the base."""
        return self.base.param_groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:  # type: ignore[override]
        """That of the base."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Those of the base."""
        return self.base.defaults

    @property
    def params(self) -> list[Tensor]:
        """All parameters, group by group, in the order that the vectors have."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def rho(self) -> float:
        """The radius of the first group. Setting it sets that of all groups."""
        return float(self.param_groups[0]["rho"])

    @rho.setter
    def rho(self, value: float) -> None:
        arguments.check_rho(value)
        for group in self.param_groups:
            group["rho"] = float(value)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients. Not needed between steps, because each pass starts from cleared gradients."""
        self.base.zero_grad(set_to_none)
        leftovers.mark(self.params)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Like torch's; the vectors in memory get zeros for the new parameters, which come last."""
        arguments.check_rho(param_group.get("rho", self.default_rho), f" in param group {len(self.param_groups)}")
        self.base.add_param_group(param_group)
        self._complete_groups()
        leftovers.mark(self.param_groups[-1]["params"])  # as at construction

    def _complete_groups(self) -> None:
        for i, group in enumerate(self.param_groups):
            arguments.check_rho(group.setdefault("rho", self.default_rho), f" in param group {i}")
            group["rho"] = float(group["rho"])  # a number of numpy could not be loaded with weights_only
            if group.get("maximize"):
                raise ValueError("maximize=True is not supported: negate the loss")
        arguments.check_parameters(self.params)
        self.running_stats, self.perturbation = RunningStats(self.model), Perturbation()

    def other_options(self, memory: Mapping[str, Any]) -> str:
        """The options, as one writes them, with which `memory` was made and with which this optimizer cannot go on."""
        return ""

    def _fit_memory(self) -> None:
        """Move the vectors to the device of the parameters, and add zeros for new parameters.

        Groups that only the base was given, or whose state was loaded into the base alone, get what they lack.
        """
        if any("rho" not in group for group in self.param_groups):
            self._complete_groups()
        params = self.params
        for name in self.vectors:
            if (v := self.memory.get(name)) is None:
                continue
            if len(v.parts) != len(params) or v.parts[0].device != params[0].device:
                added = [torch.zeros_like(p, dtype=wide(p.dtype)) for p in params[len(v.parts) :]]
                self.memory[name] = Vector([part.to(params[0].device) for part in v.parts] + added, v.factor)
                for other in (key for key, value in self.memory.items() if isinstance(value, Tensor)):
                    self.memory[other] = self.memory[other].to(params[0].device)

    def state_dict(self) -> dict[str, Any]:
        """`{"base": ..., "memory": ...}`: only tensors and plain values, for `torch.load(weights_only=True)`."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        self._fit_memory()
        memory = {name: value.parts if isinstance(value, Vector) else arguments.plain(value)
                  for name, value in self.memory.items()}  # fmt: skip
        memory |= {f"{name}_factor": float(v.factor) for name, v in self.memory.items() if isinstance(v, Vector)}
        state: dict[str, Any] = {"base": self.base.state_dict(), "memory": memory}
        for after in self._optimizer_state_dict_post_hooks.values():
            state = after(self, state) or state
        return state

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was saved; raises ValueError for the state of another optimizer."""
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = before(self, state_dict) or state_dict
        arguments.check_state(type(self).__name__, self.vectors, self.params, state_dict)
        if made_with := self.other_options(state_dict["memory"]):
            raise ValueError(f"this state was made with {made_with}: build {type(self).__name__} with the same options")
        self.base.load_state_dict(state_dict["base"])
        device = self.params[0].device
        self.memory.clear()
        saved = dict(state_dict["memory"])
        factors = {name: saved.pop(f"{name}_factor", 1.0) for name in self.vectors}
        for name, value in saved.items():
            if name in self.vectors:
                value = Vector((part.detach().to(device, copy=True) for part in value), factors[name])
            elif isinstance(value, Tensor):
                value = value.detach().to(device, copy=True)
            self.memory[name] = value
        self._complete_groups()
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        # A scheduler patches `step` on the instance with a function that cannot be pickled; torch drops it too.
        dropped = ("step", "perturbation", "_seen_code")
        state = {k: v for k, v in self.__dict__.items() if k not in dropped and not k.startswith("_optimizer_")}
        return state | {"perturbation": Perturbation()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r})"
