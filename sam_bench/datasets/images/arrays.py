"""Images as training sees them: kept as uint8 pixels on the device, cropped, flipped and normalised batch by batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam_bench.datasets.images.augment import Augment
from sam_bench.errors import UsageError
from sam_bench.options import dataset as options_of_datasets
from sam_bench.options.rules import check_one


@dataclass
class ImageBatch:
    """`x` (n, C, H, W) float, normalised, channels last in memory; `y` (n,) int64 classes."""

    x: Tensor
    y: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def select(self, index: Tensor) -> "ImageBatch":
        return ImageBatch(self.x[index], None if self.y is None else self.y[index])

    def to(self, device: torch.device | str) -> "ImageBatch":
        return ImageBatch(self.x.to(device), None if self.y is None else self.y.to(device))


@dataclass(frozen=True)
class Images:
    """All images of a data set, one number per pixel: RGB and a spare byte as one int32, grey as one uint8.

    With whole pixels a crop is one gather of int32 instead of three of bytes, and the channels stay last, which is the
    fastest layout for convolutions. The last pixel is black and stands for everything outside an image. `scale` and
    `shift` normalise; both are (size * size * C,), so that the arithmetic runs along whole images.
    """

    pixels: Tensor
    size: int
    channels: int
    scale: Tensor
    shift: Tensor
    augment: Augment

    @classmethod
    def pack(cls, images: np.ndarray, mean: Sequence[float], std: Sequence[float], augment: Augment) -> "Images":
        """Pack uint8 (N, C, size, size), C 1 or 3, else ValueError; `moments` are per channel, in 0..1.

        Raises UsageError if the moments have another number of channels.
        """
        n, channels, size, width = images.shape
        if channels not in (1, 3) or size != width or images.dtype != np.uint8:
            raise ValueError(f"square uint8 images with 1 or 3 channels are wanted, not {images.dtype} {images.shape}")
        if len(mean) != channels or len(std) != channels:
            raise UsageError(
                f"dataset.mean and dataset.std need one number per channel: {channels}, not {len(mean)} and {len(std)}."
            )
        packed = torch.zeros(n * size * size + 1, 1 if channels == 1 else 4, dtype=torch.uint8)
        source = torch.from_numpy(images)
        packed[:-1].view(n, size, size, -1)[..., :channels].copy_(source.permute(0, 2, 3, 1))
        pixels = packed if channels == 1 else packed.view(torch.int32)
        center, width = (torch.tensor(list(values)).repeat(size * size) * 255 for values in (mean, std))
        return cls(pixels.flatten(), size, channels, 1 / width, -center / width, augment)

    def __len__(self) -> int:
        return len(self.pixels) // self.size**2

    def to(self, device: torch.device | str) -> "Images":
        moved = {name: getattr(self, name).to(device) for name in ("pixels", "scale", "shift")}
        return replace(self, **moved)

    def collate(self, index: Tensor, *, train: bool, generator: torch.Generator | None) -> ImageBatch:
        """The images `index` (n,), normalised; with `train`, augmented by draws from `generator`."""
        index = index.to(self.pixels.device, non_blocking=True)
        if train and self.augment.moves:
            pixels = self.gather(index, self.augment.places(len(index), self.size, generator, index.device))
        else:
            pixels = self.pixels[:-1].view(len(self), -1)[index]
        x = self.unpack(pixels)
        if not train:
            return ImageBatch(self.normalise(x))
        if self.augment.randaugment is not None:
            x = self.augment.randaugment(x[..., : self.channels].permute(0, 3, 1, 2), generator).permute(0, 2, 3, 1)
        return ImageBatch(self.augment.cut(self.normalise(x), generator))

    def gather(self, index: Tensor, places: Tensor) -> Tensor:
        """Pixels at the rows and columns `places` (2, n, size) of the images `index` (n,), black outside.

        The pixels of one image after another: (n * size * size,).
        """
        size = self.size
        outside = (places < 0) | (places >= size)
        first = index.to(torch.int32)[:, None] * (size * size) + places[0] * size
        place = first[:, :, None] + places[1, :, None, :]
        place.masked_fill_(outside[0, :, :, None] | outside[1, :, None, :], len(self.pixels) - 1)
        return self.pixels.index_select(0, place.flatten())

    def unpack(self, pixels: Tensor) -> Tensor:
        """Packed pixels of n images -> uint8 (n, size, size, C), or C + 1 with the spare byte."""
        return pixels.view(torch.uint8).view(-1, self.size, self.size, 1 if self.channels == 1 else 4)

    def normalise(self, x: Tensor) -> Tensor:
        """(n, size, size, >= C) in 0..255 -> float32 (n, C, size, size), mean 0 and deviation 1 over the train set."""
        # to float before the spare byte is cut off: in this order both steps are vectorised on a CPU
        values = x.float()[..., : self.channels].reshape(len(x), -1)
        normal = torch.addcmul(self.shift, values, self.scale)
        return normal.view(len(x), self.size, self.size, self.channels).permute(0, 3, 1, 2)


def hold_out(candidates: Tensor, fraction: float, split_seed: int) -> tuple[Tensor, Tensor]:
    """Train and valid: `fraction` of the `candidates` held out, drawn by `split_seed`; both keep the file's order."""
    check_one(options_of_datasets.Cifar, "valid_fraction", fraction, "dataset")
    order = np.random.default_rng(split_seed).permutation(len(candidates))
    held = round(fraction * len(candidates))
    return candidates[np.sort(order[held:])], candidates[np.sort(order[:held])]


def flip_labels(labels: np.ndarray, where: np.ndarray, fraction: float, classes: int, split_seed: int) -> np.ndarray:
    """Symmetric noise: `fraction` of the labels at `where` become another class, each of the others equally likely.

    The setting of SAM (arXiv 2010.01412, section 3.3) and AE-SAM; the number of wrong labels is exact.
    """
    check_one(options_of_datasets.Images, "label_noise", fraction, "dataset")
    # a random stream of its own, so that the split is the same with and without noise
    rng = np.random.default_rng([split_seed, 1])
    wrong = rng.choice(where, size=round(fraction * len(where)), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, size=len(wrong))) % classes
    return noisy


def checksum(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of pixels and labels, the same for every file layout."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels.astype("<i8")).data)
    return digest.hexdigest()
