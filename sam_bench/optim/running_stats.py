"""Running statistics (BatchNorm and its like) count steps, not passes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RunningStats:
    """Copies and puts back the buffers of every module of `model` that keeps a running mean.

    Later passes run as they are and their change is undone afterwards. This holds for SyncBatchNorm, `momentum=None`
    and foreign modules alike, keeps the counter right, and spares a compiled model the recompilation that switching
    `track_running_stats` costs.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._owners: list[nn.Module] | None = None

    def _tensors(self) -> list[Tensor]:
        if self._owners is None:
            # Found at the first step, not at construction: convert_sync_batchnorm may come in between.
            self._owners = [m for m in self.model.modules() if m._buffers.get("running_mean") is not None]
        return [b for m in self._owners for b in m._buffers.values() if b is not None]

    def copy(self) -> list[Tensor]:
        """Copies of the statistics as they are now."""
        tensors = self._tensors()
        copies = [torch.empty_like(t) for t in tensors]
        _copy(copies, tensors)
        return copies

    def put_back(self, copies: list[Tensor]) -> None:
        """Set the statistics to `copies`, in place."""
        _copy(self._tensors(), copies)


def _copy(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy tensor by tensor, one launch for all of a kind: torch fuses lists of one dtype only."""
    for dtype in {t.dtype for t in to}:
        pairs = [(a, b) for a, b in zip(to, source, strict=True) if a.dtype == dtype]
        torch._foreach_copy_([a for a, _ in pairs], [b for _, b in pairs])
