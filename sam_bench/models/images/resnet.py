"""ResNet for 32x32 images: He et al., CVPR 2016 (arXiv 1512.03385), with a stem of 3x3, stride 1, no max-pooling."""

from torch import Tensor, nn

from sam_bench.models.batch_norm import BatchNorm2d


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size at stride 1; weights as in He et al., ICCV 2015 (fan-out)."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut: (n, inputs, H, W) -> (n, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.residual = nn.Sequential(
            conv(inputs, width, stride=stride), BatchNorm2d(width), nn.ReLU(inplace=True),
            conv(width, width), BatchNorm2d(width),
        )  # fmt: skip
        self.shortcut = projection(inputs, width, stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residual(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut: (n, inputs, H, W) -> (n, 4 * width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.residual = nn.Sequential(
            conv(inputs, width, 1), BatchNorm2d(width), nn.ReLU(inplace=True),
            conv(width, width, stride=stride), BatchNorm2d(width), nn.ReLU(inplace=True),
            conv(width, 4 * width, 1), BatchNorm2d(4 * width),
        )  # fmt: skip
        self.shortcut = projection(inputs, 4 * width, stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residual(x) + self.shortcut(x))


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The shortcut: the identity if the shapes agree, else a 1x1 convolution (option B of the paper)."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv(inputs, outputs, 1, stride), BatchNorm2d(outputs))


BLOCKS: dict[str, type[Basic] | type[Bottleneck]] = {"basic": Basic, "bottleneck": Bottleneck}


class ResNet(nn.Module):
    """Four stages of residual blocks, `width` to 8 * `width` wide: batch.x (n, C, H, W) -> logits (n, num_outputs)."""

    def __init__(self, num_outputs: int, inputs: dict[str, int], block: str, depths: list[int], width: int = 64):
        super().__init__()
        kind = BLOCKS[block]
        layers: list[nn.Module] = [conv(inputs["channels"], width), BatchNorm2d(width), nn.ReLU(inplace=True)]
        channels = width
        for stage, depth in enumerate(depths):
            for place in range(depth):
                stride = 2 if stage > 0 and place == 0 else 1
                layers.append(kind(channels, width * 2**stage, stride))
                channels = width * 2**stage * kind.expansion
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_outputs)

    def forward(self, batch) -> Tensor:
        return self.head(self.features(batch.x).mean(dim=(2, 3)))
