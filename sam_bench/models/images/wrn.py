"""Wide residual networks WRN-depth-widen: Zagoruyko and Komodakis, BMVC 2016 (arXiv 1605.07146)."""

from torch import Tensor, nn

from sam_bench.models.batch_norm import BatchNorm2d
from sam_bench.models.images.resnet import conv


class WideBlock(nn.Module):
    """BN-ReLU-conv twice; the shortcut starts after BN-ReLU: (n, inputs, H, W) -> (n, width, H/stride, W/stride)."""

    def __init__(self, inputs: int, width: int, stride: int, dropout: float):
        super().__init__()
        self.before = nn.Sequential(BatchNorm2d(inputs), nn.ReLU(inplace=True))
        layers = [conv(inputs, width, stride=stride), BatchNorm2d(width), nn.ReLU(inplace=True)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.residual = nn.Sequential(*layers, conv(width, width))
        self.shortcut = None if stride == 1 and inputs == width else conv(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.before(x)
        skip = x if self.shortcut is None else self.shortcut(active)
        return skip + self.residual(active)


class WideResNet(nn.Module):
    """Three stages of (depth - 4) / 6 blocks, `widen` times 16, 32, 64 wide: batch.x -> logits (n, num_outputs).

    Raises ValueError if `depth` is not 6 k + 4.
    """

    def __init__(self, num_outputs: int, inputs: dict[str, int], depth: int, widen: int, dropout: float = 0.0):
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"a wide ResNet has depth 6 k + 4 (10, 16, 22, 28, 40), not {depth}")
        layers: list[nn.Module] = [conv(inputs["channels"], 16)]
        channels = 16
        for stage in range(3):
            width = 16 * 2**stage * widen
            for place in range(blocks):
                stride = 2 if stage > 0 and place == 0 else 1
                layers.append(WideBlock(channels, width, stride, dropout))
                channels = width
        self.features = nn.Sequential(*layers, BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.head = nn.Linear(channels, num_outputs)

    def forward(self, batch) -> Tensor:
        return self.head(self.features(batch.x).mean(dim=(2, 3)))
