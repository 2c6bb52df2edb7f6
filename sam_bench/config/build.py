"""From a resolved configuration to objects: data set, model, optimizer, schedule, logger, engine."""

import contextlib
import importlib.machinery
import importlib.util
import pkgutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.errors import InstantiationException

from sam_bench.api import Engine
from sam_bench.errors import UsageError
from sam_bench.store.disk import checksum

# Of a model, not for its constructor: `accepts` is checked first, `features` is what the data set reads by default.
CHECKED_ONLY = ("accepts", "features")
_own_code: list[Path] = []  # the folder that `trust_current_folder` was called in; empty in commands that only read


def trust_current_folder() -> None:
    """Let a `_target_` name a module of the current folder, as `run`, `sweep` and `check` promise.

    The folder joins the path, after everything installed, only if a `_target_` is found there and nowhere else.
    """
    _own_code[:] = [Path.cwd()]


def _find_own_code(config: Mapping[str, Any]) -> None:
    for target in targets_in(config):
        package = target.partition(".")[0]
        for folder in _own_code if importlib.util.find_spec(package) is None else ():
            if importlib.machinery.PathFinder.find_spec(package, [str(folder)]):
                sys.path.append(str(folder))


def imported(target: str) -> Any:
    """The object that a `_target_` names; raises ImportError, AttributeError or ValueError."""
    _find_own_code({"_target_": target})
    return pkgutil.resolve_name(target)


def targets_in(node: Any) -> Iterator[str]:
    """Every `_target_` in a part of the configuration."""
    if isinstance(node, Mapping):
        yield from (str(value) for key, value in node.items() if key == "_target_")
    for value in node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ():
        yield from targets_in(value)


def _unknown_module(config: Mapping[str, Any], error: BaseException) -> str:
    """Advice for a missing module of the user's, which commands that only read records do not look for."""
    missing = isinstance(error, ModuleNotFoundError) or isinstance(error.__cause__, ModuleNotFoundError)
    if missing and not _own_code and not str(config["_target_"]).startswith("sam_bench."):
        return " Only run, sweep, tune, budgets and check import code of the current folder; elsewhere set PYTHONPATH=."
    return ""


def _build(part: str, config: Mapping[str, Any], **arguments: Any) -> Any:
    """Instantiate one part of the configuration; raises UsageError for options that its `_target_` does not take."""
    _find_own_code(config)
    try:
        return hydra.utils.instantiate(dict(config), _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error
    if isinstance(cause, TypeError | ValueError | ImportError | InstantiationException):
        raise UsageError(
            f"cannot build the {part} ({config['_target_']}): {cause}{_unknown_module(config, cause)}"
        ) from cause
    raise cause


def own_code(config: Mapping[str, Any]) -> dict[str, str]:
    """{module: SHA-256 of its file} for each `_target_` outside this package and the installed ones."""
    _find_own_code(config)
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found: dict[str, str] = {}
    for target in targets_in(config):
        module = target.rpartition(".")[0]
        package = module.partition(".")[0]
        with contextlib.suppress(ImportError, ValueError, OSError):  # building it says what is wrong
            top = importlib.util.find_spec(package) if package not in ("sam_bench", "") else None
            places = [*(top.submodule_search_locations or ()), top.origin] if top else []
            if not places or any(Path(places[0] or "").is_relative_to(folder) for folder in installed):
                continue
            spec = importlib.util.find_spec(module)  # of a module in a package it imports the package
            if spec and spec.origin:
                found[module] = checksum(Path(spec.origin))
    return found


def build_task(config: Mapping[str, Any], data_dir: Path) -> Any:
    """The task of a configuration, on the CPU; raises UsageError if its data cannot be used."""
    return _build("dataset", config["dataset"], data_dir=data_dir, split_seed=config["split_seed"])


def build_model(config: Mapping[str, Any], task: Any) -> Any:
    """The model of a configuration, for the inputs and outputs of `task`."""
    model = {key: value for key, value in config["model"].items() if key not in CHECKED_ONLY}
    return _build("model", model, num_outputs=task.num_outputs, inputs=task.inputs)


def build_optimizer(config: Mapping[str, Any], model: Any, **schedule: Any) -> Any:
    """The optimizer around its base; `schedule` holds total_steps, steps_per_epoch, clip_norm and scaler."""
    base = _build("base", config["base"], params=model.parameters())
    return _build("optimizer", config["optimizer"], base=base, model=model, **schedule)


def build_schedule(config: Mapping[str, Any]) -> Callable[[float, float], float]:
    """The learning-rate factor at (epoch, epochs)."""
    return cast(Callable[[float, float], float], _build("schedule", config["schedule"]))


def build_logger(config: Mapping[str, Any]) -> Any:
    """The mirror of the record (W&B, TensorBoard, none)."""
    return _build("logger", config["logger"])


def build_engine(launcher: Mapping[str, Any], results: Path, jobs: int | None) -> Engine:
    """The engine of a sweep, at most `jobs` cells at once."""
    return cast(Engine, _build("launcher", launcher, results=results, jobs=jobs))
