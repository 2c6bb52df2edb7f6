"""Find the class that declares the options of a component, by its group and its `_target_`."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import ModuleType
from typing import Any

from sam_bench.errors import UsageError
from sam_bench.options import dataset, launcher, logger, method, model, run, schedule
from sam_bench.options.rules import check

GROUPS: dict[str, ModuleType] = {
    "dataset": dataset, "model": model, "base": method, "optimizer": method, "schedule": schedule, "logger": logger,
    "launcher": launcher,
}  # fmt: skip
OF_A_RUN = tuple(group for group in GROUPS if group != "launcher")  # a launcher belongs to a sweep
# A user's own component may have any options; only these are checked, if it has them.
OF_ANY: dict[str, type] = {"base": method.Base, "optimizer": method.Method}

Checked = dict[tuple[str, int], Mapping[str, Any]]  # sections of configurations by their group and id()


@cache
def declared(group: str, target: str) -> type | None:
    """The class with the options of a component of this package; None for a user's own component."""
    if group not in GROUPS:
        return None
    return next((cls for cls in vars(GROUPS[group]).values() if getattr(cls, "target", None) == target), None)


def check_all(config: Mapping[str, Any], checked: Checked | None = None) -> None:
    """Raise UsageError for an option of a resolved configuration that is unknown or has a forbidden value.

    `checked` keeps the sections that passed. The cells of a grid share most of theirs, so each is checked once.
    """
    check(run.Run, {key: value for key, value in config.items() if not isinstance(value, Mapping)}, "")
    checked = {} if checked is None else checked
    for group in ("train", *OF_A_RUN):
        if group not in config:
            raise UsageError(f"{group} is missing: a run needs each of {', '.join(('train', *OF_A_RUN))}.")
        section = config[group]
        if (group, id(section)) not in checked:
            check_component(group, section)
            checked[group, id(section)] = section  # held, so that no other section gets its id


def check_component(group: str, config: Mapping[str, Any]) -> None:
    """Raise UsageError for an option of one component that is unknown or has a forbidden value."""
    if group == "train":
        check(run.Train, config, group)
        for field in fields(run.Train):
            if field.name not in config and field.default is MISSING:
                raise UsageError(f"train.{field.name} is missing: give it a value.")
        return
    target = config.get("_target_") if isinstance(config, Mapping) else None
    if not isinstance(target, str) or "." not in target:
        raise UsageError(
            f"the YAML of the {group} names no class: it needs a line such as `_target_: my_module.MyClass` "
            f"(found: {target!r})."
        )
    if options := declared(group, target):
        check(options, config, group, more=target.startswith("torch."))
    elif group in OF_ANY:
        check(OF_ANY[group], config, group, more=True)
