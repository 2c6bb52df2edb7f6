"""RandAugment for batches on the device: Cubuk et al., NeurIPS 2020 (arXiv 1909.13719), operations as in Pillow."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_bench.options import dataset as options_of_datasets

# x (m, C, H, W) float in 0..255, strength (m, 1, 1, 1) in -1..1 with a random sign -> the same shape
Operation = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RandAugment(options_of_datasets.RandAugment):
    """`operations` draws per image out of 14, each at `magnitude` (0..30), in one of its two directions at random."""

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Images (n, C, H, W) in 0..255, any type -> float; the loop is over operations, never over images."""
        x = x.to(torch.float32, memory_format=torch.contiguous_format)
        home = generator.device if generator is not None else torch.device("cpu")
        u = torch.rand((2, self.operations, len(x)), generator=generator, device=home).cpu()
        chosen = (u[0] * len(OPERATIONS)).long()
        strength = torch.where(u[1] < 0.5, -1.0, 1.0) * (self.magnitude / 30)
        for which, how in zip(chosen, strength.to(x.device), strict=True):
            for number, operation in enumerate(OPERATIONS):
                # drawn on the host, so that nothing waits for the device
                index = (which == number).nonzero().flatten().to(x.device, non_blocking=True)
                if len(index):
                    x[index] = operation(x[index], how[index].view(-1, 1, 1, 1))
        return x


def _affine(x: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    """Transform each image by its own 2x3 matrix (nearest pixel, black outside)."""
    zero = torch.zeros(len(x), device=x.device)
    theta = torch.stack([torch.stack([zero + entry for entry in row], dim=1) for row in rows], dim=1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def rotate(x: Tensor, s: Tensor) -> Tensor:
    """Up to 30 degrees."""
    angle = s.flatten() * math.radians(30)
    return _affine(x, [[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])


def shear_x(x: Tensor, s: Tensor) -> Tensor:
    """Up to 0.3."""
    return _affine(x, [[1.0, 0.3 * s.flatten(), 0.0], [0.0, 1.0, 0.0]])


def shear_y(x: Tensor, s: Tensor) -> Tensor:
    """Up to 0.3."""
    return _affine(x, [[1.0, 0.0, 0.0], [0.3 * s.flatten(), 1.0, 0.0]])


def translate_x(x: Tensor, s: Tensor) -> Tensor:
    """Up to 150/331 of the width, the paper's share of an ImageNet image."""
    return _affine(x, [[1.0, 0.0, 300 / 331 * s.flatten()], [0.0, 1.0, 0.0]])


def translate_y(x: Tensor, s: Tensor) -> Tensor:
    """Up to 150/331 of the height."""
    return _affine(x, [[1.0, 0.0, 0.0], [0.0, 1.0, 300 / 331 * s.flatten()]])


def grey(x: Tensor) -> Tensor:
    """Luminance (m, 1, H, W), ITU-R 601; an image with one channel is returned as it is."""
    if x.shape[1] == 1:
        return x
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def _blend(x: Tensor, other: Tensor, s: Tensor) -> Tensor:
    """Away from `other` for positive strength, towards it for negative: factor 1 + 0.9 s."""
    return torch.lerp(other.expand_as(x), x, 1 + 0.9 * s).clamp_(0, 255)


def brightness(x: Tensor, s: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(x, torch.zeros_like(x), s)


def contrast(x: Tensor, s: Tensor) -> Tensor:
    """Blend with the mean grey of the image."""
    return _blend(x, grey(x).mean(dim=(1, 2, 3), keepdim=True), s)


def color(x: Tensor, s: Tensor) -> Tensor:
    """Blend with the grey image."""
    return _blend(x, grey(x), s)


def sharpness(x: Tensor, s: Tensor) -> Tensor:
    """Blend with a 3x3 smoothing; the border stays."""
    channels = x.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=x.device)
    kernel[:, :, 1, 1] = 5
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel / 13, groups=channels)
    return _blend(x, smooth, s)


def posterize(x: Tensor, s: Tensor) -> Tensor:
    """Keep 8 to 4 bits."""
    step = 2 ** (4 * s.abs()).round()
    return (x / step).floor() * step


def solarize(x: Tensor, s: Tensor) -> Tensor:
    """Invert what is above the threshold 256 (1 - strength)."""
    return torch.where(x >= 256 * (1 - s.abs()), 255 - x, x)


def autocontrast(x: Tensor, s: Tensor) -> Tensor:
    """Stretch each channel to 0..255."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) * (255 / (high - low).clamp(min=1e-6)), x)


def equalize(x: Tensor, s: Tensor) -> Tensor:
    """Flatten each channel's histogram, with Pillow's integer table."""
    level = x.clamp(0, 255).round().long().flatten(0, 1).flatten(1)  # (m * C, H * W)
    count = torch.zeros(len(level), 256, dtype=torch.long, device=x.device)
    count.scatter_add_(1, level, torch.ones_like(level))
    last = count.gather(1, level.amax(1, keepdim=True))
    step = (level.shape[1] - last) // 255
    table = ((count.cumsum(1) - count + step // 2) // step.clamp(min=1)).clamp_(max=255)
    return torch.where(step > 0, table.gather(1, level), level).view(x.shape).to(x.dtype)


def identity(x: Tensor, s: Tensor) -> Tensor:
    """Nothing."""
    return x


OPERATIONS: tuple[Operation, ...] = (
    identity, autocontrast, equalize, rotate, solarize, color, posterize, contrast, brightness, sharpness,
    shear_x, shear_y, translate_x, translate_y,
)  # fmt: skip
