"""Checks of what a user passes to an optimizer, with errors that say what to do."""

import contextlib
import dis
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.options.rules import options_of

_WITHOUT = inspect.Parameter("closure", inspect.Parameter.KEYWORD_ONLY, default=None)


def refuse_other_forms(method: str, args: tuple[object, ...], options: dict[str, object]) -> None:
    """Raise TypeError for the call `SAM(parameters, SGD, lr=0.1)`, which other packages expect."""
    candidates = [*args, *options.values()]
    kind = next((c for c in candidates if inspect.isclass(c) and issubclass(c, Optimizer)), None)
    if kind is not None:
        settings = "".join(f", {name}={options[name]!r}" for name in ("lr", "momentum") if name in options)
        settings = settings or ", lr=..."
        raise TypeError(
            f"{method}(parameters, {kind.__name__}) is how other packages call it. Here {method} wraps a built "
            f"optimizer and takes the model: {method}({kind.__name__}(model.parameters(){settings}), model)"
        )


def check_base_and_model(method: str, base: object, model: object) -> None:
    """Raise TypeError unless `base` is an optimizer and `model` a module, ValueError unless they share parameters."""
    right = f"{method}(torch.optim.SGD(model.parameters(), lr=0.1), model)"
    if not isinstance(base, Optimizer):
        raise TypeError(f"base must be a torch optimizer that is already built, as in {right}, not {_short(base)}")
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be the torch module that the closure runs, as in {right}, not {_short(model)}: a step must "
            "restore its running statistics (BatchNorm) after the second pass"
        )
    if inspect.signature(base.step).parameters.get("closure", _WITHOUT).default is inspect.Parameter.empty:
        raise TypeError(f"{type(base).__name__} calls the closure itself, as often as it likes: it cannot be the base")
    if isinstance(base, torch.optim.SparseAdam):
        raise TypeError("SparseAdam needs sparse gradients, which are not supported: take Adam")
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for group in base.param_groups for p in group["params"]):
        raise ValueError("base trains no parameter of this model: pass the model that the closure runs")


def check_parameters(params: Sequence[Tensor]) -> None:
    """Raise ValueError for parameters on several devices, TypeError for complex and sharded ones."""
    devices = {str(p.device) for p in params}
    if len(devices) > 1:
        raise ValueError(f"all parameters must be on one device, got {', '.join(sorted(devices))}")
    for p in params:
        if p.is_complex() or type(p).__name__ == "DTensor" or type(p.data).__name__ == "DTensor":
            raise TypeError("complex and sharded (FSDP, DTensor) parameters are not supported; DDP is")


def check_state(method: str, vectors: Sequence[str], params: Sequence[Tensor], state: dict[str, Any]) -> None:
    """Raise ValueError unless `state` is a state dict of `method` for parameters like `params`."""
    if set(state) != {"base", "memory"}:
        raise ValueError(
            f"this is not a state of {method}: it has {sorted(map(str, state))}, not base and memory. The state of a "
            "bare torch optimizer goes into .base.load_state_dict"
        )
    theirs = state["memory"].get("method")
    if theirs != method:
        raise ValueError(f"this is the state of {theirs}, not of {method}: build {theirs}, or load only its 'base'")
    shapes = [tuple(p.shape) for p in params]
    for name in vectors:
        if name in state["memory"] and [tuple(part.shape) for part in state["memory"][name]] != shapes:
            raise ValueError(f"memory {name!r} is of another model: the number or the shapes of its tensors differ")


def check_rho(rho: object, where: str = "") -> None:
    """Raise TypeError if `rho` is not a number, ValueError if it is negative, infinite or NaN."""
    if not isinstance(rho, int | float | numbers.Real) or isinstance(rho, bool):
        advice = f"; write rho={float(rho)}" if isinstance(rho, str) and _is_number(rho) else ""
        raise TypeError(f"rho must be a number >= 0, got {rho!r}{where}{advice}")
    if not 0 <= float(rho) < math.inf:
        raise ValueError(f"rho must be a finite number >= 0, got {rho}{where}")


def plain(value: Any) -> Any:
    """The value; a number of numpy as Python's."""
    return value.item() if isinstance(value, numbers.Number) and hasattr(value, "item") else value


def check_clip_norm(clip_norm: object) -> None:
    """Raise ValueError unless `clip_norm` is None or a number above 0."""
    if clip_norm is not None and not (isinstance(clip_norm, numbers.Real) and float(clip_norm) > 0):
        raise ValueError(f"clip_norm must be a number above 0, or None, got {clip_norm!r}")


def check_options(declared: type, **values: object) -> None:
    """Raise ValueError for a value that `declared`, the class of a method's options, does not allow, and for NaN."""
    known = options_of(declared)
    for name, value in values.items():
        own = plain(value)
        if own != own or not known[name].holds(own):
            raise ValueError(f"{name} must be {known[name].wanted}, got {value!r}")


def whole_number(name: str, value: object, least: int = 1) -> int:
    """`value` as an int; raises ValueError if it is not a whole number or is less than `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be at least {least} and a whole number, got {value!r}")
    return int(value)


def refuse_lonely_scaler(method: str, closure: Callable[..., Any]) -> None:
    """Raise ValueError if `closure` uses an enabled GradScaler that the optimizer was not given.

    The optimizer would take the scaled gradients for gradients. The check sees the variables that the function itself
    names, their attributes that it names (`self.scaler.scale`), and the scaler of an object with its own `backward`
    (Accelerate's).
    """
    function = inner_function(closure)
    attributes, variables = _names(function)
    for name, value in variables.items():
        for shown, held in _scalers_of(name, value, attributes):
            if not held.is_enabled():
                continue
            raise ValueError(
                f"the closure scales its loss with {shown}, but {method} was built without it: gradients would be "
                f"too large. Build it as {method}(base, model, scaler={shown}); the closure calls "
                "scaler.scale(loss).backward(), and you call no other method of the scaler"
            )


def inner_function(closure: object) -> Any:
    """The function inside a functools.partial, or inside the closure of the first of several micro-batches."""
    while (inner := getattr(closure, "func", None) or next(iter(getattr(closure, "closures", ())), None)) is not None:
        closure = inner
    return closure


def _names(function: Any) -> tuple[set[str], dict[str, object]]:
    """The attributes that the code of `function` reads, and the values of the outer variables that it reads."""
    attributes: set[str] = set()
    variables: dict[str, object] = {}
    code = getattr(function, "__code__", None)
    if code is None:  # an object with __call__, or a function in C
        return attributes, variables
    if (owner := getattr(function, "__self__", None)) is not None:
        variables[next(iter(code.co_varnames), "self")] = owner
    for read in dis.get_instructions(code):
        if read.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(str(read.argval))
        elif read.opname == "LOAD_GLOBAL" and read.argval in function.__globals__:
            variables[str(read.argval)] = function.__globals__[read.argval]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a variable without a value so far
            variables[name] = cell.cell_contents
    return attributes, variables


def _scalers_of(name: str, value: object, attributes: set[str]) -> Iterator[tuple[str, torch.amp.GradScaler]]:
    """The scalers behind a variable, each with what one writes for it."""
    if isinstance(value, torch.amp.GradScaler):
        yield name, value
    elif not isinstance(value, nn.Module):
        own = callable(getattr(value, "backward", None))
        for attribute, held in getattr(value, "__dict__", {}).items():
            if isinstance(held, torch.amp.GradScaler) and (own or {attribute, "scale"} <= attributes):
                yield f"{name}.{attribute}", held


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(value: object) -> str:
    return f"a {type(value).__name__}" if isinstance(value, list | tuple | Iterator) else f"{value!r:.80}"
