"""What can be wrong with a configuration, found before anything heavy is imported."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sam_bench.config import files
from sam_bench.errors import UsageError, did_you_mean
from sam_bench.options.compiler import no_cpp_compiler
from sam_bench.options.component import OF_A_RUN, check_all
from sam_bench.options.run import Run

TOP = {*OF_A_RUN, "train", "tuned", *(field.name for field in fields(Run))}


def check_options(config: Mapping[str, Any]) -> None:
    """Raise UsageError for an unknown key or a value out of its range."""
    if unknown := sorted(set(config) - TOP):
        raise UsageError(f"unknown key {unknown[0]!r}. {did_you_mean(unknown[0], TOP)}")
    check_all(config)


def check(config: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
    """Raise UsageError for an unknown key, a value out of its range, or parts that do not go together."""
    check_options(config)
    train = config["train"]
    if (train["budget"] == "seconds") != (train["seconds"] is not None):
        raise UsageError("train.seconds and train.budget=seconds belong together: give both or neither.")
    _check_model(config, labels)
    _check_base(config, labels)
    if config.get("compile") is True:
        _check_compile(config)
    if config["model"].get("kernels") == "native":
        _check_native(config)


def _check_model(config: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
    modality, accepts = config["dataset"].get("modality"), config["model"].get("accepts") or []
    if modality is None:
        raise UsageError(
            f"the YAML of dataset {labels['dataset']} has no modality: add `modality: molecule` (or image), which says "
            "what models can read it."
        )
    if modality not in accepts:
        models = files.read_group("model")
        fitting = [name for name, model in models.items() if modality in (model.get("accepts") or [])]
        raise UsageError(
            f"model {labels['model']} reads {' and '.join(accepts) or 'nothing'}, but dataset {labels['dataset']} "
            f"holds one {modality} per sample. Models that fit: {', '.join(fitting) or 'none'}."
        )


def _check_base(config: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
    """AdaSAM is SAM around AMSGrad: around another base the record would bear the name of what was not run."""
    if labels["optimizer"] == "adasam" and not config["base"].get("amsgrad"):
        raise UsageError(
            f"optimizer=adasam is SAM around AMSGrad, and base={labels['base']} is not AMSGrad: add base=amsgrad, or "
            f"choose optimizer=sam, which is what this pair would be."
        )


def _check_compile(config: Mapping[str, Any]) -> None:
    if config["dataset"]["modality"] != "image":
        raise UsageError(
            "compile=true is for images: a batch of molecules has another shape at every step, and each new one would "
            "be compiled again, for seconds or minutes. Leave compile=false, or let compile=auto decide."
        )
    if config["device"] == "cpu" and (lacking := no_cpp_compiler()):
        raise UsageError(f"compile=true: {lacking}. Run with compile=false, or install what is missing.")


def _check_native(config: Mapping[str, Any]) -> None:
    """The C++ of GROVER is for float32 on a CPU; training asks the device that `auto` finds."""
    if config["precision"] not in ("fp32", "auto"):
        raise UsageError(
            f"model.kernels=native computes in fp32, not in {config['precision']}. Run with precision=fp32, or with "
            "model.kernels=torch."
        )
    if config["device"] not in ("cpu", "auto"):
        raise UsageError(
            f"model.kernels=native is for the CPU, not for {config['device']}. Run with device=cpu, or with "
            "model.kernels=torch."
        )
    if lacking := no_cpp_compiler():
        raise UsageError(f"model.kernels=native: {lacking}. Run with model.kernels=torch, or install what is missing.")
