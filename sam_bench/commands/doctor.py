"""`sam-bench doctor`."""

import argparse
import glob
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sam_bench.commands.words import GPU_FILES, need_folder
from sam_bench.config import files
from sam_bench.errors import UsageError
from sam_bench.options.compiler import cpp_compiler, no_cpp_compiler
from sam_bench.store import places
from sam_bench.sweeps.engines import local
from sam_bench.training import provenance, threads

LEVELS = ("ok", "warning", "broken")  # the exit status is the place of the worst
SUITE = ("hydra-core", "rdkit", "torch-geometric", "scikit-learn", "pandas", "matplotlib", "ogb", "wandb")
EXTRAS = {"ray": "--launcher ray", "tensorboard": "logger=tensorboard"}
LOW_DISK = 5 * 2**30  # bytes: CIFAR unpacked and some hundred runs
BUSY = 0.5  # load per core above which timings say little


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: str
    name: str
    text: str
    advice: str = ""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "doctor", help="whether this machine can run the suite: versions, GPU, threads, folders, W&B, determinism",
        description="Looks at what a run needs and prints one line each, with advice where something is wrong. Exit "
        "status: 0 all well, 1 a warning (runs work, but slower or less comparable), 2 something is broken.",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print every finding as it is made; the severity of the worst."""
    worst = 0
    threads.before_torch()
    for check in CHECKS:
        for finding in _safely(check):
            advice = f" -> {finding.advice}" if finding.advice else ""
            print(f"{finding.level:8} {finding.name:12} {finding.text}{advice}", flush=True)
            worst = max(worst, LEVELS.index(finding.level))
    print(("all well", "warnings: runs work", "something is broken: runs will fail")[worst])
    return worst


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; one that itself fails, as a broken torch does, is a finding."""
    try:
        yield from check()
    except Exception as error:
        name, told = check.__name__.strip("_"), " ".join(str(error).split())
        yield Finding("broken", name, f"{type(error).__name__}: {told}", "install again: scripts/setup.sh")


def _versions() -> Iterator[Finding]:
    yield Finding(
        "ok",
        "version",
        f"sam_bench {provenance.versions()['sam_bench']}, Python {platform.python_version()}, {platform.platform()}",
    )
    found = {name: _version(name) for name in ("torch", "numpy", *SUITE)}
    there = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    if missing := [name for name, version in found.items() if not version]:
        advice = "pip install 'sam-bench[bench]' (the optimizers alone need torch and numpy)"
        yield Finding("broken", "packages", f"missing: {', '.join(missing)}; found: {there}", advice)
    else:
        yield Finding("ok", "packages", there)
    absent = [f"{name} ({use})" for name, use in EXTRAS.items() if not _version(name)]
    if absent:
        yield Finding("ok", "extras", f"not installed, and needed only for what stands behind: {', '.join(absent)}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpu() -> Iterator[Finding]:
    import torch

    driver = any(glob.glob(name) for name in GPU_FILES)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            text = f"cuda:{number} {card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability "
            yield Finding("ok", "gpu", f"{text}{card.major}.{card.minor}, CUDA {torch.version.cuda}{_driver()}")
    elif driver and torch.version.cuda is None:
        advice = "install torch for CUDA: scripts/setup.sh, or pytorch.org"
        yield Finding(
            "warning", "gpu", f"there is a GPU driver, but torch {torch.__version__} is built for CPUs", advice
        )
    elif driver:
        advice = "compare `nvidia-smi` with the CUDA version; in a container: docker run --gpus all"
        text = f"there is a GPU driver{_driver()}, but torch (CUDA {torch.version.cuda}) finds no GPU"
        yield Finding("warning", "gpu", text, advice)
    else:
        yield Finding("ok", "gpu", "none; device=auto takes the CPU")


def _driver() -> str:
    try:
        first = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return ""
    number = next((word for word in first.split() if word[:1].isdigit() and "." in word), "")
    return f", driver {number}" if number else ""


def _cpu() -> Iterator[Finding]:
    import torch

    from sam_bench.training.precision import multiplies_bf16

    cores = local.cores()
    bf16 = "multiplies bf16" if multiplies_bf16(torch.device("cpu")) else "has no bf16, precision=auto is fp32"
    text = f"{cores} cores for this process, torch uses {torch.backends.cpu.get_cpu_capability()}, {bf16}"
    yield Finding("ok", "cpu", text)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY * cores:
        advice = "results stay the same, but throughput and seconds are not comparable: measure on an idle machine"
        yield Finding("warning", "load", f"{load:.1f} processes want the {cores} cores", advice)
    if torch.get_num_threads() != threads.DEFAULT:
        advice = f"unset OMP_NUM_THREADS, MKL_NUM_THREADS; a run uses threads={threads.DEFAULT}"
        yield Finding("warning", "threads", f"torch starts with {torch.get_num_threads()} threads", advice)
    else:
        yield Finding("ok", "threads", f"{threads.DEFAULT} per run (threads=N for more: other last bits)")
    if lacking := no_cpp_compiler():
        lost = "compile=true is not possible on the CPU, nor model.kernels=native"
        yield Finding("ok", "compiler", f"{lacking}: {lost}")
    else:
        yield Finding("ok", "compiler", f"{cpp_compiler()}, for compile=true on the CPU and model.kernels=native")


def _folders() -> Iterator[Finding]:
    results, data = places.results_dir(), places.data_dir()
    try:
        need_folder(results)
        yield _space("results", results)
    except UsageError as error:
        yield Finding("broken", "results", str(error))
    try:
        need_folder(data)
        yield _space("data", data)
    except UsageError:
        advice = "molecules are featurised again in every run; SAM_BENCH_DATA may name a folder of yours"
        yield Finding("warning", "data", f"{data} cannot be written", advice)
    try:
        named = ", ".join(map(str, files.user_dirs())) or "none (SAM_BENCH_CONFIGS)"
        yield Finding("ok", "configs", f"built in: {files.config_dir()}; your own: {named}")
    except UsageError as error:
        yield Finding("broken", "configs", str(error))


def _space(name: str, folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free, made = shutil.disk_usage(there).free, "" if there == folder else ", made when it is needed"
    text = f"{folder} ({free / 2**30:.0f} GiB free{made})"
    return Finding("ok", name, text) if free > LOW_DISK else Finding("warning", name, text, "make room")


def _wandb() -> Iterator[Finding]:
    default = files.read_component("logger", "wandb").get("mode")
    chosen = os.environ.get("WANDB_MODE")
    mode = f"WANDB_MODE={chosen}" if chosen else f"mode={default} (logger.mode=online sends at once)"
    yield Finding("ok", "wandb", f"{mode}; logger=wandb asks for it; `wandb login` before anything is sent")


def _determinism() -> Iterator[Finding]:
    """Two runs of a few steps must be the same bits."""
    import torch

    from sam_bench.training.seeding import seed_everything

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ends = []
    for _ in range(2):
        seed_everything(0, deterministic=True)
        layers = (torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(800, 2))
        model, images = torch.nn.Sequential(*layers).to(device), torch.randn(16, 3, 12, 12).to(device)
        for _ in range(3):
            loss = model(images).square().mean()
            for parameter, slope in zip(
                model.parameters(), torch.autograd.grad(loss, [*model.parameters()]), strict=True
            ):
                parameter.data -= 0.1 * slope
        ends.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    if torch.equal(*ends):
        yield Finding("ok", "determinism", f"the same three steps twice on {device.type}: the same bits")
    else:
        advice = "a resumed run may differ from one that was not; report the versions above"
        yield Finding("warning", "determinism", f"the same three steps twice on {device.type}: other bits", advice)


CHECKS = (_versions, _folders, _wandb, _gpu, _cpu, _determinism)
