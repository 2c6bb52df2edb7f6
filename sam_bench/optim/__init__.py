"""Sharpness-aware optimizers that wrap any torch optimizer; they need torch and nothing else from the suite.

optimizer = LookSAM(torch.optim.AdamW(model.parameters(), lr=1e-3), model, rho=0.05, k=5)

def closure():
    loss = criterion(model(x), y)
    loss.backward()
    return loss

optimizer.step(closure)
"""

import sys

from sam_bench.optim import base
from sam_bench.optim.base import SharpnessAware
from sam_bench.optim.create import create_optimizer
from sam_bench.optim.methods.ae_looksam import AELookSAM
from sam_bench.optim.methods.ae_sam import AESAM
from sam_bench.optim.methods.asam import ASAM
from sam_bench.optim.methods.ausam import AUSAM
from sam_bench.optim.methods.erm import ERM
from sam_bench.optim.methods.esam import ESAM
from sam_bench.optim.methods.extrapolated_sgd import ExtrapolatedSGD
from sam_bench.optim.methods.fsam import FSAM
from sam_bench.optim.methods.graphsam import GraphSAM
from sam_bench.optim.methods.graphsam_reference import GraphSAMReference
from sam_bench.optim.methods.gsam import GSAM
from sam_bench.optim.methods.looksam import LookSAM
from sam_bench.optim.methods.msam import MSAM
from sam_bench.optim.methods.sam import SAM
from sam_bench.optim.methods.sam_every_k import SAMEveryK
from sam_bench.optim.methods.sam_vi import SAMVI
from sam_bench.optim.methods.vsam import VSAM

# The modules had these names before they moved into `methods`: `from sam_bench.optim.sam import SAM` still works.
_RENAMED = {"aelooksam": "ae_looksam", "aesam": "ae_sam", "extrapolatedsgd": "extrapolated_sgd", "samvi": "sam_vi"}
_KEPT = (
    "asam",
    "ausam",
    "erm",
    "esam",
    "fsam",
    "graphsam",
    "graphsam_reference",
    "gsam",
    "looksam",
    "msam",
    "sam",
    "vsam",
)
for _old, _new in {**{name: name for name in _KEPT}, **_RENAMED}.items():
    sys.modules[f"{__name__}.{_old}"] = sys.modules[f"{__name__}.methods.{_new}"]
sys.modules[f"{__name__}.sharpness"] = base

__all__ = [
    "AESAM",
    "ASAM",
    "AUSAM",
    "ERM",
    "ESAM",
    "FSAM",
    "GSAM",
    "MSAM",
    "SAM",
    "SAMVI",
    "VSAM",
    "AELookSAM",
    "ExtrapolatedSGD",
    "GraphSAM",
    "GraphSAMReference",
    "LookSAM",
    "SAMEveryK",
    "SharpnessAware",
    "create_optimizer",
]
