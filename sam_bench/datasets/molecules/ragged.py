"""Rows of different lengths, one after the other in one flat tensor."""

import torch
from torch import Tensor


def starts(counts: Tensor) -> Tensor:
    """(n,) counts -> (n,) exclusive running sum."""
    return counts.cumsum(0, dtype=counts.dtype) - counts


def ranges(start: Tensor, count: Tensor, total: int) -> Tensor:
    """The indices start[i] .. start[i] + count[i] - 1 for all i, one after the other: (total,)."""
    shift = torch.repeat_interleave(start - starts(count), count, output_size=total)
    return shift + torch.arange(total, device=count.device)
