"""The options of the data sets of this package: configs/dataset."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from sam_bench.options.rules import Range, at_least, between, stated

_PARTS = stated(
    "three positive numbers that add up to 1", lambda v: len(v) == 3 and min(v) > 0 and abs(sum(v) - 1) < 1e-9
)
_INSIDE = Range(lambda v: 0 < v < 1, "between 0 and 1, neither of them")
_PER_CHANNEL = stated("a list with one number per channel", lambda v: len(v) > 0)
_POSITIVE = stated("a list with one number > 0 per channel", lambda v: len(v) > 0 and min(v) > 0)

SPLITS = Literal["random", "scaffold", "scaffold_balanced"]
Checked = Annotated[bool, "refuse data with another checksum; false goes on, and the record says so"]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What every data set of this package says."""

    name: Annotated[str, "of the data, in messages and records"]
    modality: Annotated[Literal["molecule", "image"], "what a sample is; a model `accepts` it or not"]
    metric: Annotated[str | None, "by which the best epoch is chosen; null: `rmse` or `roc_auc`, as the targets are"]


@dataclass(frozen=True, kw_only=True)
class _Table(DataSet):
    """A table of SMILES and labels."""

    kind: Annotated[Literal["regression", "binary"], "of the targets; binary labels are 0 and 1"]
    fractions: Annotated[list[float], _PARTS, "of train, valid and test"]
    features: Annotated[Literal["grover", "ogb", "compt"], "numbers per atom and bond; by default the model's own"]
    descriptors: Annotated[bool, "add RDKit's 2D descriptors of the molecule"]
    max_atoms: Annotated[int, at_least(1), "a molecule with more heavy atoms is left out, and counted in a note"]


@dataclass(frozen=True, kw_only=True)
class Molecules(_Table):
    """A table of SMILES and labels without a split of its own."""

    split: Annotated[SPLITS, "how train, valid and test are drawn (docs/data.md)"]


@dataclass(frozen=True, kw_only=True)
class MoleculeNet(Molecules):
    """A set of MoleculeNet."""

    target: ClassVar = "sam_bench.datasets.moleculenet.load"
    smiles: Annotated[str, "column of the SMILES"]
    targets: Annotated[list[str] | None, "columns of the labels; null: all others"]
    verify: Checked
    file: Annotated[dict[str, Any], "its name, checksum, licence and addresses"]


@dataclass(frozen=True, kw_only=True)
class OGB(_Table):
    """A set of the Open Graph Benchmark."""

    target: ClassVar = "sam_bench.datasets.ogb.load"
    split: Annotated[Literal["official"] | SPLITS, "OGB's own, or drawn as of any other molecules"]
    verify: Checked
    sha256: Annotated[str | None, "of the four files read; null: none is known"]
    file: Annotated[dict[str, Any], "its name, folders, licence and addresses"]


@dataclass(frozen=True, kw_only=True)
class Embedded(Molecules):
    """A set that comes with RDKit."""

    target: ClassVar = "sam_bench.datasets.embedded.load"
    sha256: Annotated[str, "of SMILES and labels; with others the record says `not verified`"]


@dataclass(frozen=True, kw_only=True)
class Csv(Molecules):
    """A csv file of the user's own."""

    target: ClassVar = "sam_bench.datasets.usercsv.load"
    path: Annotated[str | int | None, "the file, .csv or .csv.gz; one that a YAML names is looked for beside that YAML"]
    smiles: Annotated[str | int | None, "column of the SMILES; null: the first"]
    targets: Annotated[list[str | int] | str | int | None, "columns of the labels; null: all others"]
    sha256: Annotated[str | None, "given: other data (SMILES and labels) are refused"]
    file_sha256: Annotated[str | None, "of the file; filled in, and part of the run's name"]


@dataclass(frozen=True)
class RandAugment:
    """Random operations on an image (arXiv 1909.13719)."""

    operations: Annotated[int, at_least(1), "draws per image, out of 14"] = 2
    magnitude: Annotated[float, between(0, 30), "how strong each is"] = 9.0


@dataclass(frozen=True)
class Augment:
    """What happens to a training image; each option is off by default."""

    flip: Annotated[bool, "mirrored with probability 1/2"] = False
    pad: Annotated[int, at_least(0), "pixels of black on each side before a random crop to the old size"] = 0
    cutout: Annotated[int, at_least(0), "side in pixels of a square put to the mean (arXiv 1708.04552)"] = 0
    cutout_probability: Annotated[float, between(0, 1), "share of the images with a cutout"] = 1.0
    randaugment: Annotated[RandAugment | None, "options of RandAugment, applied after the crop"] = None


@dataclass(frozen=True, kw_only=True)
class Images(DataSet):
    """Images and their classes."""

    mean: Annotated[list[float], _PER_CHANNEL, "of the pixels, from 0 to 1"]
    std: Annotated[list[float], _POSITIVE, "of the pixels, from 0 to 1"]
    augment: Annotated[Augment, "of training images; {} for none"]
    label_noise: Annotated[float, between(0, 1), "fraction of wrong labels in train and valid, symmetric"]


@dataclass(frozen=True, kw_only=True)
class Cifar(Images):
    """CIFAR-10 or CIFAR-100."""

    target: ClassVar = "sam_bench.datasets.cifar.load"
    classes: Annotated[Literal[10, 100], "10 or 100, as the data set"]
    split: Annotated[Literal["official"], "the test images are given; valid is held out of train"]
    valid_fraction: Annotated[float, _INSIDE, "share of the training images that is held out as valid"]
    subset: Annotated[int | None, at_least(10), "use only so many of the 50,000 training images"]
    verify: Checked
    file: Annotated[dict[str, Any], "its name, checksum, folders and addresses"]
    binary_md5: Annotated[str, "checksum of the archive of the binary version"]


@dataclass(frozen=True, kw_only=True)
class Digits(Images):
    """The digits of scikit-learn."""

    target: ClassVar = "sam_bench.datasets.digits.load"
    split: Annotated[Literal["random"], "drawn by `split_seed`"]
    fractions: Annotated[list[float], _PARTS, "of train, valid and test"]
