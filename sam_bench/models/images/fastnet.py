"""A small network in the spirit of the CIFAR speedruns (Page's ResNet-9, 2018; Jordan, arXiv 2404.00498)."""

from torch import Tensor, nn

from sam_bench.models.batch_norm import BatchNorm2d
from sam_bench.models.images.resnet import conv


class FastBlock(nn.Module):
    """conv, max-pooling by 2, BN-GELU, then conv-BN-GELU with a shortcut: (n, inputs, H, W) -> (n, width, H/2, W/2)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        # ceil_mode keeps a map of one pixel, so 8x8 digits can pass through three blocks
        self.reduce = nn.Sequential(conv(inputs, width), nn.MaxPool2d(2, ceil_mode=True), BatchNorm2d(width), nn.GELU())
        self.residual = nn.Sequential(conv(width, width), BatchNorm2d(width), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        return x + self.residual(x)


class FastNet(nn.Module):
    """A stem of `widths[0]` channels and one block per further width: batch.x (n, C, H, W) -> logits (n, num_outputs).

    `stem_stride` 2 quarters the work of everything after the stem; `scale` keeps the first logits small.
    """

    def __init__(self, num_outputs: int, inputs: dict[str, int], widths: list[int], stem_stride: int = 1,
                 scale: float = 0.125):  # fmt: skip
        super().__init__()
        stem = [conv(inputs["channels"], widths[0], stride=stem_stride), BatchNorm2d(widths[0]), nn.GELU()]
        self.features = nn.Sequential(*stem, *map(FastBlock, widths[:-1], widths[1:]))
        self.head = nn.Linear(widths[-1], num_outputs, bias=False)
        self.scale = scale

    def forward(self, batch) -> Tensor:
        return self.head(self.features(batch.x).amax(dim=(2, 3))) * self.scale
