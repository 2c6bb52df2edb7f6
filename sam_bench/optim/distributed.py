"""What several ranks must agree on. Without torch.distributed every function here is the identity."""

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


def all_true(flag: Tensor) -> bool:
    """Whether the boolean `flag` is true on every rank."""
    if several_ranks():
        flag = flag.to(torch.int32)
        dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag.item())


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
