"""What can be wrong with a configuration, found before anything heavy is imported."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam_bench.errors import UsageError, did_you_mean

Rule = tuple[Callable[[Any], bool], str]


def _integer(low: int) -> Rule:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low, f"an integer >= {low}"


def _number(low: float) -> Rule:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v > low, f"a number > {low:g}"


def _one_of(*words: Any) -> Rule:
    return lambda v: v in words, f"one of {', '.join(map(str, words))}"


def _or_null(rule: Rule) -> Rule:
    return lambda v: v is None or rule[0](v), f"{rule[1]}, or null"


def _is_number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool)


def _between(low: float, high: float) -> Rule:
    return lambda v: _is_number(v) and low <= v <= high, f"a number in [{low:g}, {high:g}]"


def _numbers(holds: Callable[[Sequence[float]], bool], wanted: str) -> Rule:
    return lambda v: isinstance(v, list) and all(map(_is_number, v)) and holds(v), wanted


RULES: dict[str, Rule] = {
    "seed": _integer(0),
    "split_seed": _integer(0),
    "precision": _one_of("fp32", "bf16", "fp16", "auto"),
    "compile": _one_of(True, False, "auto"),
    "deterministic": _one_of(True, False),
    "device": (lambda v: bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(v))), "auto, cpu, cuda or cuda:<number>"),
    "train.epochs": _integer(1),
    "train.max_steps": _or_null(_integer(1)),
    "train.budget": _one_of("epochs", "grad_evals", "seconds"),
    "train.seconds": _or_null(_number(0)),
    "train.batch_size": _integer(1),
    "train.eval_batch_size": _integer(1),
    "train.drop_last": _one_of(True, False),
    "train.clip_norm": _or_null(_number(0)),
    "train.label_smoothing": (lambda v: isinstance(v, int | float) and 0 <= v < 1, "a number in [0, 1)"),
    "train.patience": _or_null(_integer(1)),
    "train.eval_every": _integer(1),
    "train.checkpoint_seconds": (lambda v: isinstance(v, int | float) and v >= 0, "a number >= 0"),
    "base.lr": _number(0),
    "optimizer.rho": (lambda v: isinstance(v, int | float) and v >= 0, "a number >= 0"),
}

# Of the data sets of this package; those of the user's own may mean something else by these names.
DATASET_RULES: dict[str, Rule] = {
    "dataset.fractions": _numbers(
        lambda v: len(v) == 3 and min(v) > 0 and abs(sum(v) - 1) < 1e-9, "three positive numbers that add up to 1"
    ),
    "dataset.kind": _one_of("regression", "binary"),
    "dataset.descriptors": _one_of(True, False),
    "dataset.max_atoms": _integer(1),
    "dataset.verify": _one_of(True, False),
    "dataset.valid_fraction": (lambda v: _is_number(v) and 0 < v < 1, "a number between 0 and 1, neither of them"),
    "dataset.subset": _or_null(_integer(10)),
    "dataset.label_noise": _between(0, 1),
    "dataset.mean": _numbers(lambda v: len(v) > 0, "a list with one number per channel"),
    "dataset.std": _numbers(lambda v: len(v) > 0 and min(v) > 0, "a list with one number > 0 per channel"),
    "dataset.augment": (lambda v: isinstance(v, Mapping), "the options of the augmentation, {} for none"),
    "dataset.augment.flip": _one_of(True, False),
    "dataset.augment.pad": _integer(0),
    "dataset.augment.cutout": _integer(0),
    "dataset.augment.cutout_probability": _between(0, 1),
    "dataset.augment.randaugment": _or_null((lambda v: isinstance(v, Mapping), "{operations:2,magnitude:9}")),
    "dataset.augment.randaugment.operations": _integer(1),
    "dataset.augment.randaugment.magnitude": _between(0, 30),
}


def _get(config: Mapping, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ...
        value = value[part]
    return value


def _fitting_models(modality: str, folders: Iterable[Path]) -> list[str]:
    return sorted(
        path.stem
        for folder in folders
        for path in (folder / "model").glob("*.yaml")
        if modality in (yaml.safe_load(path.read_text()).get("accepts") or [])
    )


TOP = {"seed", "split_seed", "device", "precision", "compile", "deterministic", "dataset", "model", "base",
       "optimizer", "schedule", "train", "logger"}  # fmt: skip


def no_cpp_compiler() -> str:
    """What torch.compile lacks on a CPU, "" where nothing."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(name) else f"there is no C++ compiler ({name}; the variable CXX may name another)"


def _check_compile(config: Mapping) -> None:
    if config["dataset"]["modality"] != "image":
        raise UsageError(
            "compile=true is for images: a batch of molecules has another shape at every step, and each new one would "
            "be compiled again, for seconds or minutes. Leave compile=false, or let compile=auto decide."
        )
    if config["device"] == "cpu" and (lacking := no_cpp_compiler()):
        raise UsageError(f"compile=true: {lacking}. Run with compile=false, or install what is missing.")


def check(config: Mapping, labels: Mapping[str, Any], config_dirs: Iterable[Path]) -> None:
    """Raise UsageError for a value out of its range, or for a model that cannot read the data set."""
    if unknown := sorted(set(config) - TOP):
        raise UsageError(f"unknown key {unknown[0]!r}. {did_you_mean(unknown[0], TOP)}")
    ours = str(config["dataset"].get("_target_")).startswith("sam_bench.datasets.")
    for key, (holds, wanted) in (RULES | DATASET_RULES if ours else RULES).items():
        value = _get(config, key)
        if value is not ... and not holds(value):
            raise UsageError(f"{key}={value} is not usable: it must be {wanted}.")
    train = config["train"]
    if (train["budget"] == "seconds") != (train["seconds"] is not None):
        raise UsageError("train.seconds and train.budget=seconds belong together: give both or neither.")
    if config.get("compile") is True:
        _check_compile(config)
    modality, accepts = config["dataset"]["modality"], config["model"].get("accepts") or []
    if modality not in accepts:
        fitting = _fitting_models(modality, config_dirs)
        raise UsageError(
            f"model {labels['model']} reads {' and '.join(accepts) or 'nothing'}, but dataset {labels['dataset']} "
            f"holds one {modality} per sample. Models that fit: {', '.join(fitting) or 'none'}."
        )
