"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the official archives, packed or unpacked, with their checksums."""

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sam_bench.datasets.bounded import LARGEST_UNPACKED, Bounded, too_much
from sam_bench.datasets.download import File, obtain
from sam_bench.datasets.images.arrays import Images, checksum, flip_labels, hold_out
from sam_bench.datasets.images.augment import Augment
from sam_bench.datasets.split import split as make_split
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError, printable
from sam_bench.options.dataset import Cifar
from sam_bench.options.rules import check_one

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """A folder of batches, `train` and `test` with the md5 of each, and the archive that holds it, if any."""

    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    archive: str | None = None

    @property
    def binary(self) -> bool:
        return all(name.endswith(".bin") for name in self.test)


# The md5 of the python archives are those that are commonly checked. Those of the binary members are of the bytes in
# the archives (for CIFAR-100 they were recomputed from the python batches).
_TEN_PYTHON = Layout(
    "cifar-10-batches-py",
    {
        "data_batch_1": "c99cafc152244af753f735de768cd75f", "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751", "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    {"test_batch": "40351d587109b95175f43aff81a1287e"},
    "cifar-10-python.tar.gz",
)  # fmt: skip
_TEN_BINARY = Layout(
    "cifar-10-batches-bin",
    {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25", "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421", "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    },
    {"test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d"},
    "cifar-10-binary.tar.gz",
)  # fmt: skip
_HUNDRED_PYTHON = Layout(
    "cifar-100-python",
    {"train": "16019d7e3df5f24257cddd939b257f8d"}, {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    "cifar-100-python.tar.gz",
)  # fmt: skip
_HUNDRED_BINARY = Layout(
    "cifar-100-binary",
    {"train.bin": "6172c7755cfe09b2fe270c85cebc1b15"}, {"test.bin": "4499cfba6c016c1be1438163640a0898"},
    "cifar-100-binary.tar.gz",
)  # fmt: skip
# A test batch alone: enough to try things out, never a CIFAR-10 result.
_TEN_SAMPLE = Layout("cifar-10-sample", {}, _TEN_BINARY.test)

LAYOUTS: dict[int, tuple[Layout, ...]] = {
    10: (_TEN_PYTHON, _TEN_BINARY, _TEN_SAMPLE),
    100: (_HUNDRED_PYTHON, _HUNDRED_BINARY),
}


@dataclass(frozen=True)
class Batches:
    """Where a layout was found, and how to read one of its members."""

    layout: Layout
    where: str
    read: Callable[[str], bytes]
    notes: tuple[str, ...] = ()


def load(*, data_dir: Path, split_seed: int, name: str, modality: str, metric: str, split: str, classes: int,
         valid_fraction: float, mean: Sequence[float], std: Sequence[float], augment: Mapping, label_noise: float,
         subset: int | None, file: Mapping, binary_md5: str, verify: bool) -> Task:  # fmt: skip
    """The official test set; valid is held out of the official train set by `split_seed`.

    `label_noise`: fraction of wrong labels in train and valid, symmetric. `subset`: use only this many of the 50,000.
    Raises UsageError for a wrong checksum (unless `verify` is off), for a broken or a missing batch.
    """
    check_one(Cifar, "split", split, "dataset")
    augmentation = Augment.from_options(augment, size=32)  # checked first, because reading takes half a second
    found = find(name, classes, data_dir, File(**file), binary_md5, verify)
    images, labels, notes, train_size = read(found, classes, verify)
    splits, more = _splits(found, train_size, len(labels), subset, valid_fraction, split_seed)
    notes = [*found.notes, *notes]
    digest = checksum(images, labels)
    if label_noise:
        seen = torch.cat([splits["train"], splits["valid"]]).numpy()
        labels = flip_labels(labels, seen, label_noise, classes, split_seed)
        more.append(f"label noise: {label_noise:g} of the train and valid labels are wrong")
    return Task(
        name=name, modality=modality, kind="multiclass", num_outputs=classes, metric=metric,
        inputs={"channels": 3, "size": 32}, source=Images.pack(images, mean, std, augmentation),
        targets=torch.from_numpy(labels), splits=splits, data_sha256=digest,
        verified=not notes and bool(found.layout.train), notes=(*notes, *more),
    )  # fmt: skip


def verify(config: Mapping, data_dir: Path) -> str:
    """Why the files in `data_dir` are not verified; empty if they are. Raises UsageError for a wrong checksum."""
    found = find(config["name"], config["classes"], data_dir, File(**config["file"]), config["binary_md5"], True)
    read(found, config["classes"], True)
    return "" if found.layout.train else f"{found.layout.folder} is a test batch alone"


def find(name: str, classes: int, data_dir: Path, file: File, binary_md5: str, verify: bool) -> Batches:
    """The data in `data_dir`: unpacked batches, else archives, else a sample; else the python archive is fetched."""
    whole = [layout for layout in LAYOUTS[classes] if layout.archive]
    for layout in whole:
        if any((data_dir / layout.folder / member).is_file() for member in {**layout.train, **layout.test}):
            return _folder(layout, data_dir)
    for layout in whole:
        if layout.archive and (data_dir / layout.archive).is_file():
            md5 = binary_md5 if layout.binary else file.md5
            return _archive(name, layout, data_dir, File(layout.archive, folder="", md5=md5), verify)
    for layout in LAYOUTS[classes]:
        if not layout.archive and (data_dir / layout.folder).is_dir():
            return _folder(layout, data_dir)
    return _archive(name, LAYOUTS[classes][0], data_dir, file, verify)


def _folder(layout: Layout, data_dir: Path) -> Batches:
    folder = data_dir / layout.folder

    def read_member(member: str) -> bytes:
        try:
            return (folder / member).read_bytes()
        except OSError as error:
            raise UsageError(
                f"{folder / member} cannot be read ({error.strerror}): unpack the official archive again, or remove "
                f"{folder} to have it fetched."
            ) from None

    return Batches(layout, str(folder), read_member)


def _archive(name: str, layout: Layout, data_dir: Path, file: File, verify: bool) -> Batches:
    found = obtain(name, file, data_dir, verify)

    def read_member(member: str) -> bytes:
        try:
            return _member(found.path, f"{layout.folder}/{member}")
        except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
            raise UsageError(
                f"{found.path} is broken ({printable(str(error))}): remove it to have it fetched again."
            ) from None

    return Batches(layout, str(found.path), read_member, (found.note,) if found.note else ())


def _member(path: Path, name: str) -> bytes:
    """One file of an archive, read into memory: an archive cannot choose a path to write to.

    Raises UsageError for a link in place of the file, and for an archive that expands to far too much; KeyError if
    there is no such file.
    """
    with path.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    source = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115 - closed with the bounded stream
    with (
        Bounded(source, LARGEST_UNPACKED, lambda: too_much(path, LARGEST_UNPACKED)) as bounded,
        tarfile.open(fileobj=io.BufferedReader(bounded), mode="r|") as archive,
    ):
        for member in archive:
            if member.name == name:
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise UsageError(f"{name} in {path} is a link or a folder, no file: remove the archive.")
                return stream.read()
    raise KeyError(f"it holds no {name}")


def read(found: Batches, classes: int, verify: bool) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    """Images (N, 3, 32, 32) uint8, labels (N,), notes on wrong checksums, and the size of the train set."""
    images, labels, notes = [], [], []
    parse = parse_binary if found.layout.binary else parse_python
    for member, md5 in {**found.layout.train, **found.layout.test}.items():
        data = found.read(member)
        if (actual := hashlib.md5(data).hexdigest()) != md5:
            if verify:
                raise UsageError(
                    f"{member} in {found.where} is not the official file: its md5 is {actual}, not {md5}. Remove "
                    f"{found.where} to have the official archive fetched, or use it as it is with "
                    f"dataset.verify=false (the record will be marked as unverified)."
                )
            notes.append(f"md5 of {member} is {actual}, the official one is {md5}")
        x, y = parse(data, classes, f"{member} in {found.where}")
        images.append(x)
        labels.append(y)
    train_size = sum(len(y) for y in labels[: len(found.layout.train)])
    return np.concatenate(images), np.concatenate(labels), notes, train_size


def parse_binary(data: bytes, classes: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte (CIFAR-100: coarse, then fine) and 3,072 pixels."""
    label_bytes = 1 if classes == 10 else 2
    if not data or len(data) % (label_bytes + PIXELS):
        raise UsageError(f"{where} is broken: {len(data)} bytes are not a whole number of images.")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, label_bytes + PIXELS)
    return _checked(records[:, label_bytes:], records[:, label_bytes - 1], classes, where)


def parse_python(data: bytes, classes: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """A pickled dictionary of `data` and `labels` or `fine_labels`."""
    try:
        batch = ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        pixels, labels = batch[b"data"], batch[b"labels" if classes == 10 else b"fine_labels"]
        return _checked(np.asarray(pixels), np.asarray(labels), classes, where)
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
            MemoryError) as error:  # fmt: skip
        raise UsageError(f"{where} is not a CIFAR batch: {error or type(error).__name__}.") from None


def _checked(pixels: np.ndarray, labels: np.ndarray, classes: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    whole = pixels.dtype == np.uint8 and pixels.ndim == 2 and len(pixels) > 0 and pixels.shape[1] == PIXELS
    if not whole or labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise UsageError(
            f"{where} is broken: its pixels are {pixels.dtype} {pixels.shape}, labels {labels.dtype} {labels.shape}."
        )
    if not 0 <= labels.min() <= labels.max() < classes:
        raise UsageError(f"{where} is broken: it has labels outside 0..{classes - 1}.")
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


class ArraysOnly(pickle.Unpickler):
    """An unpickler for plain containers and numpy arrays; it refuses anything else before that can run."""

    def find_class(self, module: str, name: str):
        """Allow the three names that pickled arrays use; raises UnpicklingError for any other."""
        allowed = {
            ("multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined] # numpy's types lack it
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        short = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (short, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image batch needs")
        return allowed[short, name]


def _splits(found: Batches, train_size: int, total: int, subset: int | None, valid_fraction: float,
            split_seed: int) -> tuple[dict[str, Tensor], list[str]]:  # fmt: skip
    """The official split, with valid held out of train; a sample without train batches is split at random."""
    if not found.layout.train:
        note = f"{found.layout.folder} is a test batch alone, split 80/10/10 at random: not a CIFAR-10 result"
        return make_split("random", total, (0.8, 0.1, 0.1), split_seed), [note]
    pool, notes = torch.arange(train_size), []
    if subset is not None:
        check_one(Cifar, "subset", subset, "dataset")
        if subset > train_size:
            raise UsageError(f"dataset.subset is {subset}: give at most {train_size} images, or null for all.")
        chosen = np.random.default_rng([split_seed, 2]).permutation(train_size)[:subset]
        pool = torch.from_numpy(np.sort(chosen))
        notes.append(f"a subset of {subset} of the {train_size} training images")
    train, valid = hold_out(pool, valid_fraction, split_seed)
    return {"train": train, "valid": valid, "test": torch.arange(train_size, total)}, notes
