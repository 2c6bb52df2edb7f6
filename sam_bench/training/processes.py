"""One run in several processes (`torchrun`): which process does which part of a batch, and how they agree.

Every rank holds all data and takes its own part of the batch that one process would make. So the gradient, the order,
the augmentation and the record are those of one process. Only rank 0 evaluates, decides when to write, and writes. With
one process every function here does nothing.
"""

import datetime
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sam_bench.api import Batch
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.training import seeding, torchrun

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=1)  # the others wait while rank 0 evaluates or writes
BATCH_NORMS = nn.modules.batchnorm._BatchNorm


class RankLost(Exception):
    """Another process of this run is gone, so this one cannot continue; its checkpoint is kept."""


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count() -> int:
    """How many processes share the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def together(device: str) -> Iterator[None]:
    """A context in which the processes that torchrun started form one group; `device` is the configuration's."""
    if not torchrun.several():
        yield
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if (
        on_gpu
    ):  # before the first message: NCCL sends from the GPU that is set, and that is the first one for every rank
        torch.cuda.set_device(_own_gpu())
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield
        dist.barrier()  # no process leaves while another still communicates with it
    finally:
        dist.destroy_process_group()


def device_of(name: str) -> str:
    """The device of this rank; raises UsageError if this machine has fewer GPUs than processes."""
    if count() == 1 or name == "cpu" or not torch.cuda.is_available():
        return name
    if name not in ("auto", "cuda"):
        raise UsageError(f"device={name} is one GPU, but torchrun started {count()} processes: use device=cuda.")
    return f"cuda:{_own_gpu()}"


def _own_gpu() -> int:
    """The number of this rank's GPU; raises UsageError, on all ranks of this machine, where there are too few."""
    gpus, ranks = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if ranks > gpus:
        raise UsageError(f"{gpus} GPU(s) here for {ranks} processes: --nproc-per-node {gpus}.")
    return int(os.environ["LOCAL_RANK"])


def from_first(make: Callable[[], T]) -> T:
    """The result of rank 0, on all ranks; the others wait for it. A UsageError of rank 0 is raised on all ranks."""
    if count() == 1:
        return make()
    made: list[Any] = [None, None]
    if rank() == 0:
        try:
            made[0] = make()
        except UsageError as error:
            made[1] = error
    dist.broadcast_object_list(made, src=0)
    if made[1] is not None:
        raise made[1]
    result: T = made[0]
    return result


def first_before_others(make: Callable[[], T]) -> T:
    """Run `make` on rank 0 first, then on the others, so that they find complete downloads and caches."""
    if count() == 1:
        return make()
    made: list[T] = []
    from_first(lambda: made.append(make()))
    return made[0] if made else make()


def any_of(*flags: bool) -> list[bool]:
    """For each flag, whether it is true on any rank."""
    if count() == 1:
        return list(flags)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    values = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def gather(value: T) -> list[T]:
    """The value of each rank, on all ranks."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over the ranks."""
    if count() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / count()


def part(task: Task, batch: Batch, index: Tensor) -> tuple[Batch, Tensor, Tensor | None]:
    """This rank's part of `batch`, its samples of `index`, and the weight of its loss (None for one process).

    The mean over the ranks of their weighted losses is the loss of the batch. The weights follow the number of labels,
    which differs between ranks. If a batch has fewer samples than ranks, a rank without one runs a sample of weight 0.
    """
    if count() == 1:
        return batch, index, None
    place = torch.arange(rank(), len(index), count())
    labels = task.labels(index[place])
    if not len(place):
        place = torch.zeros(1, dtype=torch.long)
    weight = labels * count() / task.labels(index).clamp(min=1)
    return batch.select(place), index[place], weight


def parallel(
    model: nn.Module, seed: int, prepare: Callable[[nn.Module], nn.Module] | None = None
) -> tuple[nn.Module, list[str]]:
    """A model whose backward pass averages gradients over the ranks, and remarks on differences to one process.

    `prepare` turns a rank's own model into the one that training calls.

    On GPUs the statistics of BatchNorm are those of the whole batch (SyncBatchNorm). Dropout draws different masks on
    each rank.
    """
    if count() == 1:
        return prepare(model) if prepare else model, []
    notes = []
    if any(isinstance(module, BATCH_NORMS) for module in model.modules()):
        if next(model.parameters()).is_cuda:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        else:
            notes.append(f"BatchNorm's statistics are those of a part of the batch ({count()} processes on CPU)")
    if rank() and _has_dropout(model):
        torch.manual_seed(seeding.derive(seed, "rank", rank()))
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # a copy more, no error
    # A model may leave parameters out of a pass; then the other ranks must not wait for their gradients.
    called = prepare(model) if prepare else model
    return DistributedDataParallel(called, find_unused_parameters=True), notes


def _has_dropout(model: nn.Module) -> bool:
    rates = [getattr(module, name, 0) for module in model.modules() for name in ("p", "dropout", "drop_path")]
    return any(isinstance(value, float) and value > 0 for value in rates)


def lost(error: Exception) -> bool:
    """Whether an error of torch means that another process of this run is gone."""
    if count() == 1 or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "Gloo", "NCCL"))
