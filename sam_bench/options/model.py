"""The options of the models of this package: configs/model. A model checks itself that its sizes fit each other."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from sam_bench.options.rules import Range, at_least

_SHARE = Range(lambda v: 0 <= v < 1, "in [0, 1)")
Size = Annotated[int, at_least(1)]
Dropout = Annotated[float, _SHARE, "probability that a value is dropped in training"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """Options of every model."""

    accepts: Annotated[list[Literal["molecule", "image"]], "kinds of samples that it can read"]


@dataclass(frozen=True, kw_only=True)
class Graph(Model):
    """A model of molecules."""

    features: Annotated[Literal["grover", "ogb", "compt"], "the features of atoms and bonds that it reads"] = "grover"
    hidden: Annotated[Size, "width of the hidden states"]


@dataclass(frozen=True, kw_only=True)
class GraphModel(Graph):
    """A class of torch_geometric."""

    target: ClassVar = "sam_bench.models.pyg.GraphModel"
    pool: Annotated[Literal["mean", "sum", "max"] | None, "how atoms are pooled into a molecule; null: the net does it"]
    net: Annotated[dict[str, Any], "a class of torch_geometric and its arguments"]


@dataclass(frozen=True, kw_only=True)
class Gine(Graph):
    """GINE."""

    target: ClassVar = "sam_bench.models.gine.Gine"
    layers: Annotated[Size, "message passing layers"]
    dropout: Dropout
    pool: Annotated[Literal["mean", "sum", "max"], "how atoms are pooled into a molecule"]


@dataclass(frozen=True, kw_only=True)
class Compt(Graph):
    """CoMPT."""

    target: ClassVar = "sam_bench.models.compt.Compt"
    layers: Annotated[Size, "transformer layers"]
    heads: Annotated[Size, "attention heads; they divide `hidden`"]
    feed_layers: Annotated[Size, "linear layers in each feed-forward network"]
    head_layers: Annotated[Size, "linear layers of the output network"]
    kernel: Annotated[Literal["exp", "softmax"], "how attention decays with the distance of two atoms (docs/compt.md)"]
    readout: Annotated[Literal["gru", "mean"], "how atoms are pooled into a molecule (docs/compt.md)"]
    scale_norm: Annotated[bool, "use ScaleNorm instead of LayerNorm"]
    dropout: Dropout


@dataclass(frozen=True, kw_only=True)
class Grover(Graph):
    """GROVER."""

    target: ClassVar = "sam_bench.models.grover.Grover"
    depth: Annotated[Size, "message passing steps"]
    heads: Annotated[Size, "attention heads; they divide `hidden`"]
    blocks: Annotated[Size, "transformer blocks"]
    dropout: Dropout
    activation: Annotated[str, "activation between linear layers: relu, prelu, ..."]
    readout: Annotated[Literal["mean", "self_attention"], "how atoms are pooled into a molecule"]
    attention_hidden: Annotated[Size, "width inside the self-attention readout"] = 4
    attention_out: Annotated[Size, "rows of the self-attention readout"] = 128
    head_hidden: Annotated[Size, "width of the output networks"]
    head_layers: Annotated[Size, "linear layers of the output networks"]
    disagreement: Annotated[float, at_least(0), "weight of the penalty on differing heads"]
    pretrained: Annotated[str | None, "file with GROVER's published weights"] = None
    init: Annotated[
        Literal["library", "published"],
        "initial values; `published`: all vectors are zero, as in GROVER's code (docs/grover.md)",
    ] = "library"
    kernels: Annotated[
        Literal["torch", "native"],
        "`native`: C++ code for a CPU, in fp32, compiled at its first use (docs/molecules.md)",
    ] = "torch"


@dataclass(frozen=True, kw_only=True)
class FastNet(Model):
    """A small convolutional network."""

    target: ClassVar = "sam_bench.models.fastnet.FastNet"
    widths: Annotated[list[Size], "channels of each stage"]
    stem_stride: Annotated[Size, "stride of the first convolution"]
    scale: Annotated[float, "factor applied to the output"]


@dataclass(frozen=True, kw_only=True)
class PyramidNet(Model):
    """PyramidNet."""

    target: ClassVar = "sam_bench.models.pyramidnet.PyramidNet"
    depth: Annotated[Size, "number of layers, 6 k + 2"]
    alpha: Annotated[Size, "channels added in total from the first block to the last"]


@dataclass(frozen=True, kw_only=True)
class ResNet(Model):
    """ResNet."""

    target: ClassVar = "sam_bench.models.resnet.ResNet"
    block: Annotated[Literal["basic", "bottleneck"], "block with two (basic) or three (bottleneck) convolutions"]
    depths: Annotated[list[Size], "blocks in each stage"]
    width: Annotated[Size, "channels of the first stage"] = 64


@dataclass(frozen=True, kw_only=True)
class ViT(Model):
    """Vision transformer."""

    target: ClassVar = "sam_bench.models.vit.ViT"
    patch: Annotated[Size, "side of a patch in pixels; it must divide the side of the image"]
    width: Annotated[Size, "width of the hidden states"]
    depth: Annotated[Size, "transformer layers"]
    heads: Annotated[Size, "attention heads; must divide `width`"]
    dropout: Dropout


@dataclass(frozen=True, kw_only=True)
class WideResNet(Model):
    """Wide ResNet."""

    target: ClassVar = "sam_bench.models.wrn.WideResNet"
    depth: Annotated[Size, "number of layers, 6 k + 4"]
    widen: Annotated[Size, "factor on the number of channels"]
    dropout: Dropout
