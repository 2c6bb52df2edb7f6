"""The options of the models of this package: configs/model. A model checks itself what its sizes say of each other."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from sam_bench.options.rules import Range, at_least

_SHARE = Range(lambda v: 0 <= v < 1, "in [0, 1)")
Size = Annotated[int, at_least(1)]
Dropout = Annotated[float, _SHARE, "probability that a value is dropped in training"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What every model says."""

    accepts: Annotated[list[Literal["molecule", "image"]], "what samples it can read"]


@dataclass(frozen=True, kw_only=True)
class Graph(Model):
    """A model of molecules."""

    features: Annotated[Literal["grover", "ogb", "compt"], "the numbers per atom and bond that it reads"] = "grover"
    hidden: Annotated[Size, "width of the hidden states"]


@dataclass(frozen=True, kw_only=True)
class GraphModel(Graph):
    """A class of torch_geometric."""

    target: ClassVar = "sam_bench.models.pyg.GraphModel"
    pool: Annotated[Literal["mean", "sum", "max"] | None, "from atoms to molecules; null: the net does it"]
    net: Annotated[dict[str, Any], "the class of torch_geometric, and its keys"]


@dataclass(frozen=True, kw_only=True)
class Gine(Graph):
    """GINE."""

    target: ClassVar = "sam_bench.models.gine.Gine"
    layers: Annotated[Size, "of message passing"]
    dropout: Dropout
    pool: Annotated[Literal["mean", "sum", "max"], "from atoms to molecules"]


@dataclass(frozen=True, kw_only=True)
class Compt(Graph):
    """CoMPT."""

    target: ClassVar = "sam_bench.models.compt.Compt"
    layers: Annotated[Size, "transformer layers"]
    heads: Annotated[Size, "attention heads; they divide `hidden`"]
    feed_layers: Annotated[Size, "linear layers in each feed-forward network"]
    head_layers: Annotated[Size, "linear layers of the output network"]
    kernel: Annotated[Literal["exp", "softmax"], "how attention fades with the distance of two atoms (docs/compt.md)"]
    readout: Annotated[Literal["gru", "mean"], "from atoms to molecules (docs/compt.md)"]
    scale_norm: Annotated[bool, "ScaleNorm instead of LayerNorm"]
    dropout: Dropout


@dataclass(frozen=True, kw_only=True)
class Grover(Graph):
    """GROVER."""

    target: ClassVar = "sam_bench.models.grover.Grover"
    depth: Annotated[Size, "message passing steps"]
    heads: Annotated[Size, "attention heads; they divide `hidden`"]
    blocks: Annotated[Size, "transformer blocks"]
    dropout: Dropout
    activation: Annotated[str, "between linear layers: relu, prelu, ..."]
    readout: Annotated[Literal["mean", "self_attention"], "from atoms to molecules"]
    attention_hidden: Annotated[Size, "width inside the self-attention readout"] = 4
    attention_out: Annotated[Size, "rows of the self-attention readout"] = 128
    head_hidden: Annotated[Size, "width of the output networks"]
    head_layers: Annotated[Size, "linear layers of the output networks"]
    disagreement: Annotated[float, at_least(0), "weight of the penalty on heads that disagree"]
    pretrained: Annotated[str | None, "file of GROVER's published weights"] = None
    init: Annotated[
        Literal["library", "published"], "`published`: all vectors are zero, as in GROVER's code (docs/grover.md)"
    ] = "library"
    kernels: Annotated[
        Literal["torch", "native"],
        "`native`: C++ for a CPU, in fp32, compiled when first asked for (docs/molecules.md)",
    ] = "torch"


@dataclass(frozen=True, kw_only=True)
class FastNet(Model):
    """A small convolutional network."""

    target: ClassVar = "sam_bench.models.fastnet.FastNet"
    widths: Annotated[list[Size], "channels of its stages"]
    stem_stride: Annotated[Size, "stride of the first convolution"]
    scale: Annotated[float, "factor on the output"]


@dataclass(frozen=True, kw_only=True)
class PyramidNet(Model):
    """PyramidNet."""

    target: ClassVar = "sam_bench.models.pyramidnet.PyramidNet"
    depth: Annotated[Size, "layers, 6 k + 2"]
    alpha: Annotated[Size, "channels that are added from the first block to the last"]


@dataclass(frozen=True, kw_only=True)
class ResNet(Model):
    """ResNet."""

    target: ClassVar = "sam_bench.models.resnet.ResNet"
    block: Annotated[Literal["basic", "bottleneck"], "two or three convolutions"]
    depths: Annotated[list[Size], "blocks in each stage"]
    width: Annotated[Size, "channels of the first stage"] = 64


@dataclass(frozen=True, kw_only=True)
class ViT(Model):
    """Vision transformer."""

    target: ClassVar = "sam_bench.models.vit.ViT"
    patch: Annotated[Size, "side of a patch in pixels; it divides the image's"]
    width: Annotated[Size, "of the hidden states"]
    depth: Annotated[Size, "transformer layers"]
    heads: Annotated[Size, "attention heads; they divide `width`"]
    dropout: Dropout


@dataclass(frozen=True, kw_only=True)
class WideResNet(Model):
    """Wide ResNet."""

    target: ClassVar = "sam_bench.models.wrn.WideResNet"
    depth: Annotated[Size, "layers, 6 k + 4"]
    widen: Annotated[Size, "factor on the channels"]
    dropout: Dropout
