"""torch.compile for the training passes of a run, and for nothing else.

Weights, checkpoints, evaluation and measurements use the plain model; only the calls in training are compiled.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sam_bench.api import Batch
from sam_bench.errors import UsageError
from sam_bench.optim.base import SharpnessAware
from sam_bench.optim.oracle import rng_of, rng_state
from sam_bench.optim.running_stats import RunningStats
from sam_bench.options.compiler import no_cpp_compiler
from sam_bench.training import processes
from sam_bench.training.loop import Trainer

TRITON_NEEDS = (7, 0)  # compute capability
ALIKE = 0.1  # relative: rounding makes gradients of bf16 differ by some per cent
COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")


def obstacle(device: torch.device) -> str:
    """Why torch cannot compile for `device` on this machine, "" if it can. Takes no time."""
    if device.type != "cuda":
        return no_cpp_compiler()
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed, which writes the code for a GPU"
    if torch.cuda.get_device_capability(device) < TRITON_NEEDS:
        return "this GPU is too old for Triton, which writes the code (compute capability below 7.0)"
    if not any(shutil.which(name) for name in (os.environ.get("CC", "gcc"), "gcc", "clang")):
        return "there is no C compiler, which Triton needs (gcc; the variable CC may name another)"
    return ""


class Compiled(nn.Module):
    """`model`, compiled for batches of `size` samples; any other number goes through `model` itself.

    Each further size would be compiled again, for minutes, and torch gives up after a few sizes. A dynamic size does
    not help: torch then drops the memory layout that is fastest for convolutions, and a resumed run could get other
    code than before. So the code depends on the size alone. Dropout draws the same numbers as without compilation. bf16
    is rounded where the model rounds it; torch would leave this out, and the gradient of `amax` became NaN.
    """

    def __init__(self, model: nn.Module, size: int, *, deterministic: bool):
        super().__init__()
        self.model = model
        self.size: int | None = size
        torch.compiler.reset()  # several runs in one process: each compiles anew
        options: dict[str, str | int | bool | Callable[..., Any]] = {
            "fallback_random": True, "emulate_precision_casts": True, "deterministic": deterministic,
        }  # fmt: skip
        self._compiled = (torch.compile(model, dynamic=False, options=options),)  # a tuple: no second submodule

    @contextmanager
    def plain(self) -> Iterator[None]:
        """A context in which the plain model is called."""
        size, self.size = self.size, None
        try:
            yield
        finally:
            self.size = size

    def forward(self, batch: Batch) -> torch.Tensor:
        output: torch.Tensor = (self._compiled[0] if len(batch) == self.size else self.model)(batch)
        return output


def full_size(samples: int, batch_size: int) -> int:
    """How many samples of a full batch this rank gets."""
    return len(range(processes.rank(), min(samples, batch_size), processes.count()))


def warm_up(trainer: Trainer) -> None:
    """Compile what the training passes of `trainer` call, on its set-up clock; its state does not change.

    Raises UsageError if the compiled gradient differs from that of the plain model.
    """
    task, index = trainer.task, trainer.train_index[: trainer.options.batch_size]
    statistics, device = RunningStats(trainer.model), trainer.device
    before = statistics.copy()
    trainer.model.train()
    with trainer.clock.running("setup"), rng_of(rng_state(device), device):
        whole = task.collate(index, train=True, generator=torch.Generator(device).manual_seed(0))
        part, _, weight = processes.part(task, whole, index)
        closure = trainer.closure_of(part, weight)
        inner = getattr(trainer.parallel, "module", trainer.parallel)  # of DistributedDataParallel
        assert isinstance(inner, Compiled)
        with inner.plain():
            plain = _length(trainer.optimizer, closure)
        compiled = _length(trainer.optimizer, closure)
        if trainer.optimizer.chooses_samples:  # some also run a forward pass alone, which is compiled separately
            with torch.no_grad():
                closure(backward=False)
    statistics.put_back(before)
    trainer.optimizer.zero_grad()
    if not abs(compiled - plain) <= ALIKE * plain:  # so that a NaN is caught, too
        raise UsageError(
            f"torch.compile computes another gradient for this model: its length is {compiled:.4g}, not {plain:.4g}. "
            "Run with compile=false."
        )


def _length(optimizer: SharpnessAware, closure: Callable[[], torch.Tensor]) -> float:
    """The norm of the gradient of one pass; restores the random generators."""
    device = optimizer.params[0].device
    optimizer.zero_grad()
    with rng_of(rng_state(device), device):
        closure()
    return float(torch.stack([p.grad.norm() for p in optimizer.params if p.grad is not None]).norm())


def advice(error: BaseException) -> UsageError | None:
    """What to do about an error of torch's compiler; None for other errors."""
    cause: BaseException | None = error
    seen: set[int] = set()  # the causes of an error that was raised again may be a ring
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if type(cause).__module__.startswith(COMPILERS):
            first = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
            return UsageError(f"torch.compile failed: {first}\nRun it without: compile=false (--traceback says more).")
        cause = cause.__cause__ or cause.__context__
    return None
