"""One run in several processes (`torchrun`): who does which part of a batch, and what all must agree on.

Every rank holds all data and cuts its own part out of the batch that one process would make, so the gradient, the
order, the augmentation and the record are those of one process. Rank 0 alone evaluates, decides when to write, and
writes. With one process every function here does nothing.
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
    """Another process of this run is gone: this one cannot go on, and its checkpoint is kept."""


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count() -> int:
    """How many processes share the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def together(device: str) -> Iterator[None]:
    """Within it the processes that torchrun started are one group; `device` is the configuration's."""
    if not torchrun.several():
        yield
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield
        dist.barrier()  # none leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def device_of(name: str) -> str:
    """The device of this rank; raises UsageError when there are fewer GPUs than processes here."""
    if count() == 1 or name == "cpu" or not torch.cuda.is_available():
        return name
    if name not in ("auto", "cuda"):
        raise UsageError(f"device={name} is one GPU, but torchrun started {count()} processes: use device=cuda.")
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= gpus:
        raise UsageError(f"{gpus} GPU(s) here for {os.environ['LOCAL_WORLD_SIZE']} processes: --nproc-per-node {gpus}.")
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def from_first(make: Callable[[], T]) -> T:
    """What rank 0 makes, on all ranks; the others wait for it. A UsageError of rank 0 is raised by all."""
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
    """`make` on rank 0 first, then on the others: what it fetches or caches is there once, and whole."""
    if count() == 1:
        return make()
    made: list[T] = []
    from_first(lambda: made.append(make()))
    return made[0] if made else make()


def any_of(*flags: bool) -> list[bool]:
    """For each flag whether it is true on any rank."""
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

    The mean over the ranks of their weighted losses is the loss of the batch: weights go by labels, of which a rank
    may have more or fewer. A batch of fewer samples than ranks leaves one without: it runs a sample that weighs 0.
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
    """The model whose backward pass averages gradients over the ranks, and remarks on what one process does otherwise.

    `prepare` makes of a rank's own model what training calls.

    On GPUs the statistics of BatchNorm are those of the whole batch (SyncBatchNorm). A model with dropout draws other
    masks on each rank.
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
    # A model may leave parameters out of a pass: the others then must not wait for their gradients.
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
