"""Running statistics, such as BatchNorm's, are updated once per step and not once per pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RunningStats:
    """Copies and restores the buffers of every module of `model` that keeps a running mean.

    Later passes of a step update the statistics too, and this is undone afterwards. So SyncBatchNorm, `momentum=None`
    and modules of other packages work, and the counter is right. Switching off `track_running_stats` instead would
    recompile a compiled model.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._owners: list[nn.Module] | None = None

    def _tensors(self) -> list[Tensor]:
        if self._owners is None:
            # Looked up at the first step, because convert_sync_batchnorm may run after the construction.
            self._owners = [m for m in self.model.modules() if m._buffers.get("running_mean") is not None]
        return [b for m in self._owners for b in m._buffers.values() if b is not None]

    def copy(self) -> list[Tensor]:
        """Copies of the current statistics."""
        tensors = self._tensors()
        copies = [torch.empty_like(t) for t in tensors]
        _copy(copies, tensors)
        return copies

    def put_back(self, copies: list[Tensor]) -> None:
        """Set the statistics to `copies`, in place."""
        _copy(self._tensors(), copies)


def _copy(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy tensor by tensor with one launch per dtype: torch fuses lists of one dtype only."""
    for dtype in {t.dtype for t in to}:
        pairs = [(a, b) for a, b in zip(to, source, strict=True) if a.dtype == dtype]
        torch._foreach_copy_([a for a, _ in pairs], [b for _, b in pairs])
