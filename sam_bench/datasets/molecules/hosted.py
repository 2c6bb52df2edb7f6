"""What a batch on a GPU lets the CPU make: its index tensors, which one copy takes to the GPU.

They come of some hundred operations on a few thousand integers. On a GPU each of those is a launch, and the launches of
a small model's step take longer than its arithmetic.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

ALIGNED = 16  # bytes: where a tensor begins in the copy, so that a GPU may read it in whole words


class on_host(cached_property):
    """A cached property of a batch, an index tensor or a tuple of some, that is made on the CPU wherever the batch is.

    The first one that a batch on a GPU is asked for brings along all that the batches before it were asked for.
    """

    def __get__(self, batch: Any, owner: Any = None) -> Any:
        if batch is None or batch.host is None:
            return super().__get__(batch, owner)
        wanted: dict[str, None] = batch.packed.wanted
        assert self.attrname is not None  # the class body has named it
        wanted.setdefault(self.attrname)
        missing = [name for name in wanted if name not in vars(batch)]
        made = moved([getattr(batch.host, name) for name in missing], batch.packed.device)
        vars(batch).update(zip(missing, made, strict=True))
        return vars(batch)[self.attrname]


def moved(values: Sequence[Any], device: torch.device) -> list[Any]:
    """`values`, tensors of the CPU or tuples that hold some, on `device`: by one copy, for which nobody waits."""
    places: dict[int, tuple[int, Tensor]] = {}
    end = 0
    for tensor in _tensors(values):
        if id(tensor) not in places:
            places[id(tensor)] = end, tensor
            end += -(-tensor.nbytes // ALIGNED) * ALIGNED
    # Only from pinned memory is a copy made while the host goes on; torch keeps the memory until it is done.
    together = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for start, tensor in places.values():
        _part(together, start, tensor).copy_(tensor)
    together = together.to(device, non_blocking=True)
    there = {key: _part(together, start, tensor) for key, (start, tensor) in places.items()}
    return [_replaced(value, there) for value in values]


def _part(together: Tensor, start: int, tensor: Tensor) -> Tensor:
    return together[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _replaced(value: Any, there: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return there[id(value)]
    if not isinstance(value, tuple):
        return value
    parts = (_replaced(part, there) for part in value)
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
