"""Batch norm that does not count its batches.

torch reads the count only with `momentum=None`. On a GPU counting is one more launch for each layer and pass.
"""

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class _Uncounted(_BatchNorm):
    def __init__(self, width: int):
        super().__init__(width)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        assert self.momentum is not None  # the constructor leaves torch's 0.1
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum, self.eps
        )


class BatchNorm1d(_Uncounted, nn.BatchNorm1d):
    """Batch norm of (n, width); its `num_batches_tracked` stays 0."""


class BatchNorm2d(_Uncounted, nn.BatchNorm2d):
    """Batch norm of (n, width, H, W); its `num_batches_tracked` stays 0."""
