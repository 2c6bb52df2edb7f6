"""Build a method from the name of its YAML file, without Hydra."""

import inspect
from collections.abc import Callable, Iterable
from pkgutil import resolve_name
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from sam_bench.config.files import read_component
from sam_bench.errors import did_you_mean
from sam_bench.optim.base import SharpnessAware


def create_optimizer(
    name: str, base: Optimizer | Callable[[Iterable[Tensor]], Optimizer] | str, model: nn.Module, *,
    base_options: dict[str, Any] | None = None, **options: Any,
) -> SharpnessAware:  # fmt: skip
    """The method `name` (a file of configs/optimizer) around `base`, on the parameters of `model`.

    `base` is an optimizer, a function that builds one from parameters, or a name from configs/base. `base_options`
    override the defaults of that name. Your own YAML files are found in the folders of SAM_BENCH_CONFIGS. Raises
    UsageError for an unknown name, TypeError for an unknown option.
    """
    config = read_component("optimizer", name)
    target = resolve_name(config.pop("_target_"))
    known = option_names(target)
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has no option {option!r}. {did_you_mean(option, known)}")
    if isinstance(base, str):
        settings = read_component("base", base) | (base_options or {})
        base = resolve_name(settings.pop("_target_"))(model.parameters(), **settings)
    elif base_options is not None:
        raise TypeError("base_options go with a base that is given by name")
    elif not isinstance(base, Optimizer):
        base = base(model.parameters())
    return cast(SharpnessAware, target(base, model, **config | options))


def option_names(method: type[SharpnessAware]) -> set[str]:
    """The options that the constructor of `method` takes, its own and the common ones."""
    names: set[str] = set()
    for cls in method.__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        if cls is SharpnessAware:
            break
    if "when" not in inspect.signature(method.__init__).parameters:
        names.discard("when")  # SAM's policy: a method built on SAM may have one of its own
    return names
