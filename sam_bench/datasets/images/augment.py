"""Image augmentation as batched tensor operations: flip, pad-and-crop, cutout; no Python per image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sam_bench.datasets.images.randaugment import RandAugment
from sam_bench.errors import UsageError
from sam_bench.options import dataset as options_of_datasets
from sam_bench.options.rules import check


@dataclass(frozen=True)
class Augment(options_of_datasets.Augment):
    """The augmentation of training images. Each option is off by default, so `Augment()` changes nothing.

    The centre of a cutout (DeVries and Taylor, arXiv 1708.04552) can be any pixel of the image.
    """

    randaugment: RandAugment | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any], size: int = 32) -> "Augment":
        """From the YAML of a data set of `size` x `size` pixels.

        Raises UsageError for an unknown name, a number below its range, or more pixels than an image has.
        """
        check(options_of_datasets.Augment, options, "dataset.augment")
        if options.get("pad", 0) >= size or options.get("cutout", 0) > size:
            raise UsageError(
                f"dataset.augment.pad must be below {size} and dataset.augment.cutout at most {size}, the size of the "
                f"images: else some images would be all black."
            )
        extra = options.get("randaugment")
        return cls(**{**options, "randaugment": RandAugment(**extra) if extra else None})

    @property
    def moves(self) -> bool:
        """Whether pixels move before RandAugment."""
        return self.flip or self.pad > 0

    def places(self, n: int, size: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Rows and columns of the source pixels, (2, n, size) int32; outside 0..size-1 is padding."""
        u = uniform((3, n, 1), generator, device)
        line = torch.arange(size, dtype=torch.int32, device=device)
        places = line.expand(2, n, size)
        if self.pad:
            places = line + ((u[:2] * (2 * self.pad + 1)).to(torch.int32) - self.pad)
        if self.flip:
            # the crop is taken from the mirrored image: its shift has the same distribution, and it saves a pass
            columns = places[1]
            places = torch.stack([places[0], torch.where(u[2] < 0.5, size - 1 - columns, columns)])
        return places

    def cut(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Cutout in place on normalised images (n, C, size, size): 0 is the mean."""
        if not self.cutout:
            return x
        n, channels, size = x.shape[:3]
        u = uniform((3, n, 1), generator, x.device)
        corner = (u[:2] * size).to(torch.int32) - self.cutout // 2
        line = torch.arange(size, dtype=torch.int32, device=x.device)
        inside = (line >= corner) & (line < corner + self.cutout)  # (2, n, size)
        rows = (inside[0] & (u[2] < self.cutout_probability)).float()
        # 1 outside and 0 inside, in the channels-last layout of the images: twice as fast as filling with a mask
        columns = inside[1].float().repeat_interleave(channels, dim=1)
        keep = torch.addcmul(torch.ones((), device=x.device), rows[:, :, None], columns[:, None, :], value=-1)
        return x.mul_(keep.view(n, size, size, channels).permute(0, 3, 1, 2))


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1) on `device`, drawn on the generator's device, so they are equal for all devices."""
    home = generator.device if generator is not None else torch.device("cpu")
    return torch.rand(shape, generator=generator, device=home).to(device, non_blocking=True)
