"""What several ranks must agree on. Without torch.distributed every function here is the identity."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn


def several_ranks() -> bool:
    """True in a process group of more than one rank."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def agree(value: Tensor) -> float:
    """The mean of a scalar over the ranks, as a float. All ranks decide alike on it, so they cannot deadlock."""
    return mean(value).item()


def all_finite(values: Tensor) -> tuple[bool, list[float]]:
    """Whether all `values` (n,) are finite on every rank, and what they are (nothing on several); waits once."""
    if several_ranks():
        flag = torch.isfinite(values).all().to(torch.int32)
        dist.all_reduce(flag, op=dist.ReduceOp.MIN)
        return bool(flag.item()), []
    read: list[float] = values.tolist()  # as they are: to look at them on a GPU takes six launches
    return all(map(math.isfinite, read)), read


def mean(value: Tensor) -> Tensor:
    """The mean of `value` over the ranks."""
    if several_ranks():
        value = value.clone()
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value


def local_passes(model: nn.Module, local: bool) -> AbstractContextManager[None]:
    """A context in which a DistributedDataParallel model does not average the gradients over the ranks."""
    if not (local and several_ranks()):
        return nullcontext()
    no_sync: Callable[[], AbstractContextManager[None]] | None = getattr(model, "no_sync", None)
    if no_sync is None:
        raise TypeError("m_sharpness='device' needs the DistributedDataParallel model itself: pass it as `model`")
    return no_sync()
