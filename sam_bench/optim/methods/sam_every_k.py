"""SAM on every k-th step: the ablation of LookSAM (Liu et al., CVPR 2022, arXiv 2203.02714)."""

from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from sam_bench.optim.base import Common
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.when import EveryK


class SAMEveryK(SAM):
    """SAM on every `k`-th step, the plain gradient on the others: the ablation of LookSAM. Cost `1 + 1/k`.

    Raises ValueError for k < 1.
    """

    claims = Claims(
        passes=lambda optimizer, steps, n: steps + -(-steps // optimizer.when.k), limits=(Limit({"k": 1}, "sam"),)
    )

    def __init__(self, base: Optimizer, model: nn.Module, *, rho: float = 0.05, k: int = 5, **common: Unpack[Common]):
        super().__init__(base, model, rho=rho, when=EveryK(k), **common)
