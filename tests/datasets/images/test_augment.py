"""Augmentation against a plain loop over images, its determinism, and the operations of RandAugment."""

import numpy as np
import pytest
import torch

from sam_bench.datasets.images import digits, randaugment
from sam_bench.datasets.images.arrays import Images, flip_labels, hold_out
from sam_bench.datasets.images.augment import Augment
from sam_bench.datasets.images.randaugment import OPERATIONS, RandAugment, equalize, rotate, translate_x
from sam_bench.errors import UsageError

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


def make(augment=None, n=20, channels=3, size=32):
    raw = np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    return raw, Images.pack(raw, MEAN[:channels], STD[:channels], Augment.from_options(augment or {}, size))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_is_only_normalisation(channels):
    raw, images = make(channels=channels)
    index = torch.tensor([3, 0, 19])
    mean, std = (torch.tensor(v[:channels]).view(-1, 1, 1) for v in (MEAN, STD))
    expected = (torch.from_numpy(raw)[index].float() / 255 - mean) / std
    assert torch.allclose(images.collate(index, train=False, generator=None).x, expected, atol=1e-5)
    assert torch.equal(
        images.collate(index, train=True, generator=seeded()).x, images.collate(index, train=False, generator=None).x
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_and_flip_equal_a_loop(channels):
    raw, images = make({"flip": True, "pad": 4}, channels=channels)
    index = torch.randint(0, 20, (64,), generator=seeded(1))
    places = images.augment.places(64, 32, seeded(2), torch.device("cpu"))
    rows, columns = places
    batch = images.unpack(images.gather(index, places))[..., :channels].permute(0, 3, 1, 2)
    padded = np.pad(raw, ((0, 0), (0, 0), (4, 4), (4, 4)))
    shifts, flips = set(), 0
    for i, image in enumerate(batch):
        flipped = bool(columns[i, 0] > columns[i, 1])
        top, left = int(rows[i, 0]) + 4, int(columns[i, -1 if flipped else 0]) + 4
        window = padded[index[i], :, top : top + 32, left : left + 32]
        assert np.array_equal(image, window[:, :, ::-1] if flipped else window)
        shifts.add((top, left))
        flips += flipped
    assert 20 <= flips <= 44
    assert len(shifts) > 30
    assert {0, 8} <= {top for top, _ in shifts}
    assert max(max(pair) for pair in shifts) == 8


def test_cutout_is_a_clipped_square_of_the_mean():
    x = Augment(cutout=8).cut(torch.ones(500, 3, 32, 32), seeded())
    hole = x[:, 0] == 0
    assert torch.equal(hole, (x == 0).all(1))
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), heights * widths)
    assert heights.max() == widths.max() == 8
    assert heights.min() == 4  # the centre may lie on the edge
    x = Augment(cutout=8, cutout_probability=0.3).cut(torch.ones(500, 3, 32, 32), seeded())
    assert 120 <= (x == 0).flatten(1).any(1).sum() <= 180


@pytest.mark.parametrize(
    "options", [{"flip": True, "pad": 4, "cutout": 8}, {"pad": 2, "randaugment": {"operations": 2}}]
)
def test_same_generator_same_batch(options):
    _, images = make(options)
    index = torch.arange(20)
    one, again, other = (images.collate(index, train=True, generator=seeded(s)).x for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float32
    assert one.is_contiguous(memory_format=torch.channels_last)


def test_select_takes_samples():
    _, images = make()
    batch = images.collate(torch.arange(5), train=False, generator=None)
    batch.y = torch.arange(5)
    part = batch.select(torch.tensor([4, 1]))
    assert len(part) == 2
    assert part.y.tolist() == [4, 1]
    assert torch.equal(part.x[0], batch.x[4])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_operation_keeps_range_and_batch_order(operation, channels):
    x = torch.randint(0, 256, (6, channels, 32, 32), generator=seeded()).float()
    s = torch.tensor([0.3, -0.3, 1.0, -1.0, 0.5, -0.5]).view(-1, 1, 1, 1)
    result = operation(x.clone(), s)
    assert result.shape == x.shape
    assert result.min() >= 0
    assert result.max() <= 255.01
    alone = operation(x[2:3].clone(), s[2:3])
    assert torch.allclose(result[2:3], alone, atol=1e-3)


def test_operations_do_what_their_name_says():
    x = torch.zeros(1, 1, 32, 32)
    x[0, 0, 10, 20] = 255
    full = torch.ones(1, 1, 1, 1)
    assert translate_x(x, full).nonzero()[0, 3] == 20 - round(150 / 331 * 32)
    assert torch.equal(rotate(x, 0 * full), x)
    ramp = torch.arange(64.0).repeat(16).view(1, 1, 32, 32)
    assert equalize(ramp, full).max() == 255
    flat = torch.full((1, 1, 32, 32), 7.0)
    assert torch.equal(equalize(flat, full), flat)


def test_randaugment_of_no_strength_moves_little():
    x = torch.randint(0, 256, (64, 3, 32, 32), generator=seeded(), dtype=torch.uint8)
    out = RandAugment(operations=1, magnitude=0)(x.clone(), seeded(1))
    same = (out == x).flatten(1).all(1)
    assert same.float().mean() > 0.7  # all but equalize and autocontrast, of which the latter has nothing to stretch


@pytest.mark.parametrize(
    ("options", "message"),
    [({"flips": True}, "flip"), ({"cutout_probability": 2}, "probability"),
     ({"pad": -1}, "pad"), ({"randaugment": {"n": 2}}, "operations"),
     ({"randaugment": {"magnitude": 31}}, r"in \[0, 30\]"), ({"pad": 32}, "below 32"), ({"cutout": 33}, "at most 32")],
)  # fmt: skip
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Augment.from_options(options, 32)


def test_moments_of_another_number_of_channels_are_refused():
    raw = np.zeros((1, 1, 8, 8), np.uint8)
    with pytest.raises(UsageError, match=r"one number per channel: 1, not 3 and 1"):
        Images.pack(raw, [0.5] * 3, [0.5], Augment())


def test_label_noise_is_exact_and_never_the_old_class():
    labels = np.arange(1000) % 10
    where = np.arange(800)
    noisy = flip_labels(labels, where, 0.4, 10, split_seed=3)
    assert (noisy != labels).sum() == 320
    assert np.array_equal(noisy[800:], labels[800:])
    assert np.array_equal(noisy, flip_labels(labels, where, 0.4, 10, split_seed=3))
    assert not np.array_equal(noisy, flip_labels(labels, where, 0.4, 10, split_seed=4))
    moved = (noisy - labels)[noisy != labels] % 10
    assert np.bincount(moved, minlength=10)[1:].min() > 15


def test_hold_out_is_disjoint_complete_and_seeded():
    train, valid = hold_out(torch.arange(1000), 0.1, 0)
    assert len(valid) == 100
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(1000))
    assert torch.equal(valid, hold_out(torch.arange(1000), 0.1, 0)[1])
    assert not torch.equal(valid, hold_out(torch.arange(1000), 0.1, 1)[1])


DIGITS = {
    "name": "digits", "modality": "image", "metric": "accuracy", "split": "random", "fractions": [0.8, 0.1, 0.1],
    "mean": [0.3], "std": [0.4], "augment": {"pad": 1}, "label_noise": 0.0,
}  # fmt: skip


def test_digits(tmp_path):
    task = digits.load(data_dir=tmp_path, split_seed=0, **DIGITS)
    assert {name: len(index) for name, index in task.splits.items()} == {"train": 1437, "valid": 180, "test": 180}
    batch = task.collate(task.splits["train"][:5], train=True, generator=seeded())
    assert batch.x.shape == (5, 1, 8, 8)
    assert torch.equal(batch.y, task.targets[task.splits["train"][:5]])
    assert not list(tmp_path.iterdir())
    noisy = digits.load(data_dir=tmp_path, split_seed=0, **{**DIGITS, "label_noise": 0.2})
    assert (noisy.targets != task.targets).sum() == round(0.2 * 1617)
    assert torch.equal(noisy.targets[noisy.splits["test"]], task.targets[task.splits["test"]])
    assert noisy.split_sha256 == task.split_sha256
    assert "0.2" in noisy.notes[0]


@pytest.mark.gpu
def test_gpu_batches_equal_those_of_the_cpu():
    _, images = make({"flip": True, "pad": 4, "cutout": 8})
    index = torch.arange(20)
    here = images.collate(index, train=True, generator=seeded()).x
    there = images.to("cuda").collate(index.cuda(), train=True, generator=seeded()).x
    assert torch.allclose(here, there.cpu(), atol=1e-5)


@pytest.mark.parametrize("s", [0.3, -0.8])
def test_operations_are_those_of_pillow(s):
    pytest.importorskip("PIL")
    from PIL import Image, ImageEnhance, ImageOps

    x = torch.randint(20, 200, (1, 3, 32, 32), generator=seeded(), dtype=torch.uint8)
    image = Image.fromarray(x[0].permute(1, 2, 0).numpy())
    factor, bits, threshold = 1 + 0.9 * s, 8 - round(4 * abs(s)), 256 * (1 - abs(s))
    references = {
        randaugment.autocontrast: ImageOps.autocontrast(image),
        randaugment.equalize: ImageOps.equalize(image),
        randaugment.posterize: ImageOps.posterize(image, bits),
        randaugment.solarize: ImageOps.solarize(image, threshold),
        randaugment.brightness: ImageEnhance.Brightness(image).enhance(factor),
        randaugment.contrast: ImageEnhance.Contrast(image).enhance(factor),
        randaugment.color: ImageEnhance.Color(image).enhance(factor),
        randaugment.sharpness: ImageEnhance.Sharpness(image).enhance(factor),
    }
    for operation, reference in references.items():
        ours = operation(x.float(), torch.full((1, 1, 1, 1), s))[0].permute(1, 2, 0)
        assert (ours - torch.from_numpy(np.array(reference))).abs().max() <= 2, operation.__name__


@pytest.mark.parametrize("s", [0.3, -0.5, 1.0])
def test_movements_are_those_of_pillow(s):
    pytest.importorskip("PIL")
    from PIL import Image

    x = torch.randint(0, 256, (1, 3, 32, 32), generator=seeded(), dtype=torch.uint8)
    image = Image.fromarray(x[0].permute(1, 2, 0).numpy())
    slope, shift = 0.3 * s, 150 / 331 * 32 * s
    references = {
        randaugment.rotate: image.rotate(30 * s),
        randaugment.shear_x: image.transform((32, 32), Image.AFFINE, (1, slope, -16 * slope, 0, 1, 0)),
        randaugment.shear_y: image.transform((32, 32), Image.AFFINE, (1, 0, 0, slope, 1, -16 * slope)),
        randaugment.translate_x: image.transform((32, 32), Image.AFFINE, (1, 0, shift, 0, 1, 0)),
        randaugment.translate_y: image.transform((32, 32), Image.AFFINE, (1, 0, 0, 0, 1, shift)),
    }
    for operation, reference in references.items():
        ours = operation(x.float(), torch.full((1, 1, 1, 1), s))[0].permute(1, 2, 0)
        other = (ours != torch.from_numpy(np.array(reference))).any(-1)
        assert other.float().mean() < 0.02, operation.__name__  # a pixel on the edge between two may be the other one


def test_flips_and_shifts_are_equally_likely():
    rows, columns = Augment(flip=True, pad=4).places(9000, 32, seeded(), torch.device("cpu"))
    flipped = columns[:, 0] > columns[:, 1]
    left = torch.where(flipped, columns[:, -1], columns[:, 0])
    assert 4250 <= flipped.sum() <= 4750
    for corner in (rows[:, 0], left):
        counts = torch.bincount(corner + 4)
        assert len(counts) == 9
        assert 850 <= counts.min() <= counts.max() <= 1150
