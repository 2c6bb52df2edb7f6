"""The options of the data sets of this package: configs/dataset."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from sam_bench.options.rules import Range, at_least, between, stated

_PARTS = stated(
    "three positive numbers that add up to 1", lambda v: len(v) == 3 and min(v) > 0 and abs(sum(v) - 1) < 1e-9
)
_INSIDE = Range(lambda v: 0 < v < 1, "greater than 0 and less than 1")
_PER_CHANNEL = stated("a list with one number per channel", lambda v: len(v) > 0)
_POSITIVE = stated("a list with one number > 0 per channel", lambda v: len(v) > 0 and min(v) > 0)

SPLITS = Literal["random", "scaffold", "scaffold_balanced"]
Checked = Annotated[bool, "refuse data with another checksum; false: use them, and say so in the record"]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Options of every data set of this package."""

    name: Annotated[str, "name of the data set in messages and records"]
    modality: Annotated[Literal["molecule", "image"], "kind of the samples; a model must list it under `accepts`"]
    metric: Annotated[str | None, "metric that chooses the best epoch; null: `rmse`, or `roc_auc` for binary targets"]


@dataclass(frozen=True, kw_only=True)
class _Table(DataSet):
    """A table of SMILES and labels."""

    kind: Annotated[Literal["regression", "binary"], "kind of the targets; binary labels are 0 and 1"]
    fractions: Annotated[list[float], _PARTS, "shares of train, valid and test"]
    features: Annotated[Literal["grover", "ogb", "compt"], "features of atoms and bonds; default: the model's"]
    descriptors: Annotated[bool, "add RDKit's 2D descriptors of the molecule"]
    max_atoms: Annotated[int, at_least(1), "leave out molecules with more heavy atoms; a note counts them"]


@dataclass(frozen=True, kw_only=True)
class Molecules(_Table):
    """A table of SMILES and labels without a split of its own."""

    split: Annotated[SPLITS, "how molecules are assigned to train, valid and test (docs/data.md)"]


@dataclass(frozen=True, kw_only=True)
class MoleculeNet(Molecules):
    """A data set of MoleculeNet."""

    target: ClassVar = "sam_bench.datasets.moleculenet.load"
    smiles: Annotated[str, "column with the SMILES"]
    targets: Annotated[list[str] | None, "columns with the labels; null: all other columns"]
    verify: Checked
    file: Annotated[dict[str, Any], "name, checksum, licence and addresses of the file"]


@dataclass(frozen=True, kw_only=True)
class OGB(_Table):
    """A data set of the Open Graph Benchmark."""

    target: ClassVar = "sam_bench.datasets.ogb.load"
    split: Annotated[Literal["official"] | SPLITS, "official: the split of OGB; others as for any molecules"]
    verify: Checked
    sha256: Annotated[str | None, "checksum of the four files that are read; null: unknown"]
    file: Annotated[dict[str, Any], "name, folders, licence and addresses of the file"]


@dataclass(frozen=True, kw_only=True)
class Embedded(Molecules):
    """A data set that ships with RDKit."""

    target: ClassVar = "sam_bench.datasets.embedded.load"
    sha256: Annotated[str, "checksum of SMILES and labels; with another one the record says `not verified`"]


@dataclass(frozen=True, kw_only=True)
class Csv(Molecules):
    """A user's own csv file."""

    target: ClassVar = "sam_bench.datasets.usercsv.load"
    path: Annotated[str | int | None, "the file, .csv or .csv.gz; a relative path in a YAML starts at that YAML"]
    smiles: Annotated[str | int | None, "column with the SMILES; null: the first column"]
    targets: Annotated[list[str | int] | str | int | None, "columns with the labels; null: all others"]
    sha256: Annotated[str | None, "checksum of SMILES and labels; if given, other data are refused"]
    file_sha256: Annotated[str | None, "checksum of the file; filled in automatically, and part of the run id"]


@dataclass(frozen=True)
class RandAugment:
    """Random operations on an image (arXiv 1909.13719)."""

    operations: Annotated[int, at_least(1), "operations per image, drawn from 14"] = 2
    magnitude: Annotated[float, between(0, 30), "strength of each operation"] = 9.0


@dataclass(frozen=True)
class Augment:
    """Augmentation of training images; each option is off by default."""

    flip: Annotated[bool, "mirror an image with probability 1/2"] = False
    pad: Annotated[int, at_least(0), "black pixels added on each side before a random crop to the original size"] = 0
    cutout: Annotated[int, at_least(0), "side, in pixels, of a square that is set to the mean (arXiv 1708.04552)"] = 0
    cutout_probability: Annotated[float, between(0, 1), "share of images with a cutout"] = 1.0
    randaugment: Annotated[RandAugment | None, "options of RandAugment, applied after the crop"] = None


@dataclass(frozen=True, kw_only=True)
class Images(DataSet):
    """Images and their classes."""

    mean: Annotated[list[float], _PER_CHANNEL, "mean of the pixels, which lie between 0 and 1"]
    std: Annotated[list[float], _POSITIVE, "standard deviation of the pixels"]
    augment: Annotated[Augment, "augmentation of training images; {} for none"]
    label_noise: Annotated[float, between(0, 1), "fraction of wrong labels in train and valid (symmetric noise)"]


@dataclass(frozen=True, kw_only=True)
class Cifar(Images):
    """CIFAR-10 or CIFAR-100."""

    target: ClassVar = "sam_bench.datasets.cifar.load"
    classes: Annotated[Literal[10, 100], "10 or 100, for CIFAR-10 or CIFAR-100"]
    split: Annotated[Literal["official"], "official test images; valid is taken from the training images"]
    valid_fraction: Annotated[float, _INSIDE, "share of the training images that becomes valid"]
    subset: Annotated[int | None, at_least(10), "use only this many of the 50,000 training images"]
    verify: Checked
    file: Annotated[dict[str, Any], "name, checksum, folders and addresses of the file"]
    binary_md5: Annotated[str, "MD5 checksum of the archive with the binary version"]


@dataclass(frozen=True, kw_only=True)
class Digits(Images):
    """The digits of scikit-learn."""

    target: ClassVar = "sam_bench.datasets.digits.load"
    split: Annotated[Literal["random"], "random, from `split_seed`"]
    fractions: Annotated[list[float], _PARTS, "shares of train, valid and test"]
