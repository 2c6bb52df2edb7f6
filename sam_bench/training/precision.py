"""How a run computes: in which precision, and whether its training passes are compiled. `auto` asks the device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import torch

from sam_bench.errors import UsageError
from sam_bench.training.compiled import obstacle as obstacle_to_compiling

# Instructions that multiply matrices of bf16: Intel's AMX, and AVX-512 with BF16 (Intel, AMD).
CPU_BF16 = ("amx_bf16", "avx512_bf16")
GPU_BF16 = (8, 0)  # compute capability of Ampere, the first with bf16 in its matrix units


def exact_float32() -> None:
    """Let float32 be float32 on a GPU, too.

    By default torch lets the convolutions and recurrences of cuDNN round their inputs to TF32, which has 10 bits behind
    the point instead of 23, but not matrix products: `precision=fp32` would mean two things in one network.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def tf32(device: torch.device) -> bool:
    """Whether anything that is computed in float32 on `device` may be rounded to TF32 on its way in."""
    return device.type == "cuda" and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


@dataclass(frozen=True)
class Arithmetic:
    """The `precision` (fp32, bf16 or fp16) and `compile` that a configuration gives on a device."""

    precision: str
    compiled: bool


def multiplies_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bf16; other devices emulate it slowly."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= GPU_BF16
    return any(torch.cpu.get_capabilities().get(name) for name in CPU_BF16)


def gains_from_bf16(config: Mapping[str, Any], device: torch.device) -> bool:
    """Whether bf16 makes a step faster on `device`, not only whether the device can multiply it.

    A model of molecules says from which hidden size on bf16 is faster on a CPU (`bf16_from_hidden`). Each batch has
    another shape, for which the library compiles bf16 kernels, and small products gain less than the conversions cost
    (docs/molecules.md).
    """
    if config["model"].get("kernels") == "native":  # it computes in float32
        return False
    if device.type != "cpu" or config["dataset"]["modality"] != "molecule":
        return True
    needed = getattr(resolve_name(config["model"]["_target_"]), "bf16_from_hidden", math.inf)
    return bool(config["model"].get("hidden", 0) >= needed)


def choose(config: Mapping[str, Any], device: torch.device) -> Arithmetic:
    """What this configuration means on `device`; raises UsageError if the device cannot do it."""
    precision, compiled = config["precision"], config.get("compile", False)
    if config["model"].get("kernels") == "native" and device.type != "cpu":
        raise UsageError("model.kernels=native is for the CPU. Run with device=cpu, or with model.kernels=torch.")
    if precision == "auto":
        precision = "bf16" if multiplies_bf16(device) and gains_from_bf16(config, device) else "fp32"
    if compiled == "auto":
        on_gpu = device.type == "cuda" and config["dataset"]["modality"] == "image"
        compiled = on_gpu and not obstacle_to_compiling(device)
    elif compiled and (obstacle := obstacle_to_compiling(device)):
        raise UsageError(f"compile=true: {obstacle}. Run with compile=false, or install what is missing.")
    return Arithmetic(precision, compiled)


def remarks(config: Mapping[str, Any], device: torch.device, made: Arithmetic) -> list[str]:
    """What a reader of the record should know of `compile=auto`: why a run on a GPU that it is for was not compiled."""
    if config.get("compile") != "auto" or device.type != "cuda" or config["dataset"]["modality"] != "image":
        return []
    obstacle = obstacle_to_compiling(device)
    return [f"compile=auto: not compiled, because {obstacle}"] if obstacle and not made.compiled else []


def of_record(record: Mapping[str, Any]) -> Arithmetic:
    """The arithmetic of a finished run; in records from before `auto` it is in the configuration."""
    made = record["provenance"]
    return Arithmetic(made.get("precision", record["config"]["precision"]), made.get("compiled", False))


def resumed(state: Mapping[str, Any], chosen: Arithmetic, device: torch.device) -> Arithmetic:
    """The arithmetic of a resumed run: that of its checkpoint `state`, even if `device` would choose another.

    Raises UsageError if the run was compiled and this machine cannot compile.
    """
    begun = Arithmetic(**state["arithmetic"]) if "arithmetic" in state else chosen
    if begun.compiled and (obstacle := obstacle_to_compiling(device)):
        raise UsageError(
            f"this run was started with compile, which does not work on this machine: {obstacle}. Continue it on the "
            "machine where it was started, or remove its .running folder to start again."
        )
    return begun
