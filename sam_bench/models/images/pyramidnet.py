"""Additive PyramidNet with basic blocks: Han, Kim and Kim, CVPR 2017 (arXiv 1610.02915)."""

from torch import Tensor, nn
from torch.nn import functional

from sam_bench.models.batch_norm import BatchNorm2d
from sam_bench.models.images.resnet import conv


class PyramidBlock(nn.Module):
    """BN-conv-BN-ReLU-conv-BN, shortcut padded with zeros: (n, inputs, H, W) -> (n, width, H/stride, W/stride)."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.residual = nn.Sequential(
            BatchNorm2d(inputs), conv(inputs, width, stride=stride),
            BatchNorm2d(width), nn.ReLU(inplace=True), conv(width, width), BatchNorm2d(width),
        )  # fmt: skip
        self.stride, self.added = stride, width - inputs

    def forward(self, x: Tensor) -> Tensor:
        skip = functional.avg_pool2d(x, self.stride) if self.stride > 1 else x
        return self.residual(x) + functional.pad(skip, (0, 0, 0, 0, 0, self.added))


class PyramidNet(nn.Module):
    """(depth - 2) / 2 blocks, each wider than the last: batch.x (n, C, H, W) -> logits (n, num_outputs).

    The width rises linearly from 16 to 16 + `alpha`.

    Raises ValueError if `depth` is not 6 k + 2.
    """

    def __init__(self, num_outputs: int, inputs: dict[str, int], depth: int, alpha: int):
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"a PyramidNet of basic blocks has depth 6 k + 2 (20, 56, 110, 164), not {depth}")
        layers: list[nn.Module] = [conv(inputs["channels"], 16), BatchNorm2d(16)]
        channels = 16
        for place in range(3 * blocks):
            width = round(16 + alpha * (place + 1) / (3 * blocks))
            layers.append(PyramidBlock(channels, width, 2 if place in (blocks, 2 * blocks) else 1))
            channels = width
        self.features = nn.Sequential(*layers, BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.head = nn.Linear(channels, num_outputs)

    def forward(self, batch) -> Tensor:
        return self.head(self.features(batch.x).mean(dim=(2, 3)))
