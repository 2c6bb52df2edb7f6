"""The options of the methods and of their base optimizers: configs/optimizer, configs/base.

The docstring of a method's class explains its options under Args. An option that the YAML does not list has its default
here; to change it, add it with a plus: `+optimizer.same_dropout=true`.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from sam_bench.options.rules import Range, above, at_least, between, stated

_SHARE = Range(lambda v: 0 < v <= 1, "in (0, 1]")
_BETAS = stated("two numbers in [0, 1)", lambda v: len(v) == 2 and all(0 <= beta < 1 for beta in v))


@dataclass(frozen=True, kw_only=True)
class Base:
    """Any base optimizer; its class in torch checks the other options."""

    lr: Annotated[float, above(0), "learning rate; the schedule multiplies it"]
    fused: Annotated[bool, "update all weights with one kernel, which is faster and rounds differently"] = False


@dataclass(frozen=True, kw_only=True)
class Adam(Base):
    """Adam; AMSGrad with amsgrad: true."""

    target: ClassVar = "torch.optim.Adam"
    betas: Annotated[list[float], _BETAS, "decay rates of the two running averages"]
    eps: Annotated[float, at_least(0), "added to the denominator"]
    weight_decay: Annotated[float, at_least(0), "adds this multiple of the weights to the gradient"]
    amsgrad: Annotated[bool, "use the largest second moment so far (AMSGrad)"] = False


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay."""

    target: ClassVar = "torch.optim.AdamW"
    weight_decay: Annotated[float, at_least(0), "subtracts lr * weight_decay * weights from the weights"]


@dataclass(frozen=True, kw_only=True)
class SGD(Base):
    """SGD with momentum."""

    target: ClassVar = "torch.optim.SGD"
    momentum: Annotated[float, at_least(0), "decay rate of the running sum of gradients"]
    nesterov: Annotated[bool, "use Nesterov momentum"]
    weight_decay: Annotated[float, at_least(0), "adds this multiple of the weights to the gradient"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """Options of every method."""

    rho: Annotated[float, at_least(0)] = 0.05
    same_dropout: bool = False
    check_finite: bool = True
    seed: Annotated[int, at_least(0)] = 0


@dataclass(frozen=True, kw_only=True)
class ERM(Method):
    target: ClassVar = "sam_bench.optim.ERM"


@dataclass(frozen=True, kw_only=True)
class SAM(Method):
    target: ClassVar = "sam_bench.optim.SAM"
    m_sharpness: Annotated[int, at_least(1)] | Literal["device"] | None = None


@dataclass(frozen=True, kw_only=True)
class SAMEveryK(SAM):
    target: ClassVar = "sam_bench.optim.SAMEveryK"
    k: Annotated[int, at_least(1), "every k-th step is a step of SAM"]


@dataclass(frozen=True, kw_only=True)
class LookSAM(SAM):
    target: ClassVar = "sam_bench.optim.LookSAM"
    k: Annotated[int, at_least(1)]
    alpha: float
    per_tensor: bool


@dataclass(frozen=True, kw_only=True)
class AESAM(SAM):
    target: ClassVar = "sam_bench.optim.AESAM"
    delta: Annotated[float, between(0, 1)]
    lambda_1: float
    lambda_2: float
    mu_0: float
    sigma2_0: Annotated[float, at_least(0)]


@dataclass(frozen=True, kw_only=True)
class AELookSAM(AESAM):
    target: ClassVar = "sam_bench.optim.AELookSAM"
    alpha: Annotated[float, "as in LookSAM"]
    per_tensor: Annotated[bool, "as in LookSAM"]


@dataclass(frozen=True, kw_only=True)
class ASAM(SAM):
    target: ClassVar = "sam_bench.optim.ASAM"
    eta: Annotated[float, at_least(0)]
    scope: Literal["weight", "all"]


@dataclass(frozen=True, kw_only=True)
class AUSAM(SAM):
    target: ClassVar = "sam_bench.optim.AUSAM"
    alpha: Annotated[float, _SHARE]
    f_min: Annotated[float, above(0)]
    f_max: Annotated[float, above(0)]


@dataclass(frozen=True, kw_only=True)
class ESAM(Method):
    target: ClassVar = "sam_bench.optim.ESAM"
    beta: Annotated[float, _SHARE]
    gamma: Annotated[float, _SHARE]


@dataclass(frozen=True, kw_only=True)
class ExtrapolatedSGD(Method):
    target: ClassVar = "sam_bench.optim.ExtrapolatedSGD"
    along: Literal["gradient", "noise"]


@dataclass(frozen=True, kw_only=True)
class FSAM(SAM):
    target: ClassVar = "sam_bench.optim.FSAM"
    sigma: float
    lmbda: Annotated[float, between(0, 1)]


@dataclass(frozen=True, kw_only=True)
class GraphSAM(Method):
    target: ClassVar = "sam_bench.optim.GraphSAM"
    beta: Annotated[float, between(0, 1)]
    gamma: Annotated[float, at_least(0)]
    decay_epochs: Annotated[int, at_least(1)]


@dataclass(frozen=True, kw_only=True)
class GraphSAMReference(GraphSAM):
    target: ClassVar = "sam_bench.optim.GraphSAMReference"
    radius: Annotated[float | None, at_least(0)]
    zeroed_norm: bool
    zeroed_average: bool
    per_tensor: bool
    adaptive: bool
    weigh_loss: bool
    compound_decay: bool


@dataclass(frozen=True, kw_only=True)
class GSAM(SAM):
    target: ClassVar = "sam_bench.optim.GSAM"
    alpha: float
    rho_min: Annotated[float | None, at_least(0)]


@dataclass(frozen=True, kw_only=True)
class MSAM(Method):
    target: ClassVar = "sam_bench.optim.MSAM"
    momentum: Annotated[float, between(0, 1)]


@dataclass(frozen=True, kw_only=True)
class SAMVI(Method):
    target: ClassVar = "sam_bench.optim.SAMVI"
    mode: Literal["mfvi", "both"]
    sigma: Annotated[float | None, at_least(0)]


@dataclass(frozen=True, kw_only=True)
class VSAM(SAM):
    target: ClassVar = "sam_bench.optim.VSAM"
    K: Annotated[int, at_least(2)]
    M: Annotated[int, at_least(1)]
    p_max: Annotated[float, _SHARE]
    last: Annotated[int, at_least(1)]
    a1: float
    a2: float
    beta: Annotated[float, between(0, 1)]
