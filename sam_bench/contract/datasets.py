"""The contract of the data sets: splits, labels, batches, and what leaks from one split into another."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam_bench.api import Batch
from sam_bench.contract import copies
from sam_bench.contract.result import Broken, Finding, NotApplicable, Point, Report, point, results
from sam_bench.datasets.task import Source, Task

Read = Callable[[int], Task]  # the task of a split_seed
LARGE, SAMPLED = 8192, 4096  # of more samples than LARGE, so many are read without the cache
ABSURD = 1e6  # no measurement is so many times further from the median than half of them, or the median from 0
NAMED = 5
FIELDS = ("x", "edge_index", "edge_attr", "batch", "descriptors", "y")  # of a batch, where it has them


@dataclass(frozen=True)
class DataSubject:
    """A data set under check: `read(split_seed)` gives its task, `fresh(split_seed)` without any cache.

    `fresh_sample(source, index)` makes some samples of a large `source` without any cache; None where it cannot.
    """

    name: str
    read: Read
    fresh: Read | None = None
    fresh_sample: Callable[[Source, Tensor], Source | None] = lambda source, index: None

    @cached_property
    def task(self) -> Task:
        """The task of split seed 0."""
        return self.read(0)


@point("1", "the splits are disjoint and cover the data",
       "Give every sample to exactly one of train, valid and test.")  # fmt: skip
def cover(subject: DataSubject) -> str:
    """Every sample once; samples in no split are a finding (a subset may be meant)."""
    task = subject.task
    counts = torch.zeros(len(task.source), dtype=torch.int64)
    for name, index in task.splits.items():
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < len(counts)):
            raise Broken(f"{name} holds the index {int(index.max())} of {len(counts)} samples")
        counts += torch.bincount(index, minlength=len(counts))
    if twice := int((counts > 1).sum()):
        raise Broken(f"{twice} of {len(counts)} samples are in more than one place")
    sizes = ", ".join(f"{name} {len(index)}" for name, index in task.splits.items())
    if nowhere := int((counts == 0).sum()):
        raise Finding(f"{nowhere} of {len(counts)} samples are in no split ({sizes})", "leave them out on purpose only")
    return sizes


@point("2", "the splits and the data are reproducible",
       "Derive every draw from split_seed and nothing else: no clock, no set order, no global generator.")  # fmt: skip
def reproducible(subject: DataSubject) -> str:
    """Read twice with one split seed; whether another seed gives another split is said."""
    again, other = subject.read(0), subject.read(1)
    if again.split_sha256 != subject.task.split_sha256:
        raise Broken("the same split_seed gives another split")
    if again.data_sha256 != subject.task.data_sha256 or not _equal(again.targets, subject.task.targets):
        raise Broken("read again it holds other data")
    moves = other.split_sha256 != subject.task.split_sha256
    return f"two readings are equal; split_seed=1 gives {'another' if moves else 'the same'} split"


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(nan=-1e38), b.nan_to_num(nan=-1e38))


@point("3", "no sample of one split is in another under another name",
       "Put copies into one split (split=scaffold and scaffold_balanced do), or say why they are meant.")  # fmt: skip
def leaks(subject: DataSubject) -> str:
    """Samples that are alike (the same canonical SMILES, the same pixels) across splits and within the train split."""
    task = subject.task
    keys = iter(copies.identities(task, torch.cat(list(task.splits.values()))))
    listed = {name: list(islice(keys, len(index))) for name, index in task.splits.items()}
    known = {name: Counter(own) for name, own in listed.items()}
    across = {
        f"{a} and {b}": count
        for a, b in combinations(known, 2)
        if (count := sum(known[b][key] for key in known[a].keys() & known[b].keys()))
    }
    repeated = sum(count - 1 for count in known["train"].values())
    said = copies.contradicting(task, listed["train"]) if repeated else ""
    within = f"{repeated or 'no'} {'copy' if not repeated else 'copies'} within train{said}"
    if across:
        pairs = ", ".join(f"{count} of {pair.split()[-1]} also in {pair.split()[0]}" for pair, count in across.items())
        raise Finding(f"{pairs}; {within}")
    if repeated:
        raise Finding(f"none across splits; {within}", "copies weigh double; where their labels differ, decide for one")
    return "no copy, by the canonical SMILES" if hasattr(task.source, "smiles") else "no copy, bit by bit"


@point("4", "the labels can be learned and scored",
       "Look at the rows that are named: a typing error, a unit, a marker for a missing value. Leave a target out that "
       "says nothing (dataset.targets).")  # fmt: skip
def labels(subject: DataSubject) -> str:
    """Infinite and absurd values fail; constant and one-class targets and missing labels are findings."""
    task = subject.task
    values = task.targets if task.targets.dim() == 2 else task.targets[:, None]
    names = task.target_names or tuple(f"target {i}" for i in range(values.shape[1]))
    if task.kind == "multiclass":
        return _classes(task)
    if wrong := [line for i, name in enumerate(names) for line in _absurd(values[:, i].double(), name, task.kind)]:
        raise Broken(_shown(wrong))
    found = [line for i, name in enumerate(names) for line in _uninformative(task, values[:, i], name)]
    missing = int(values.isnan().sum())
    share = f"{missing} of {values.numel()} labels are missing ({100 * missing / values.numel():.1f} %)"
    if found:
        raise Finding(f"{_shown(found)}; {share if missing else 'no label is missing'}")
    if missing:
        raise Finding(share, "missing labels weigh nothing in loss and metric; nothing has to be done")
    return f"{values.shape[1]} target(s), no label is missing"


def _classes(task: Task) -> str:
    for name, index in task.splits.items():
        seen = torch.unique(task.targets[index])
        if int(seen.min()) < 0 or int(seen.max()) >= task.num_outputs:
            raise Broken(f"{name} holds a class outside 0 to {task.num_outputs - 1}")
        if len(seen) < task.num_outputs:
            raise Finding(f"{name} has {len(seen)} of {task.num_outputs} classes")
    return f"every one of {task.num_outputs} classes in every split"


def _absurd(column: Tensor, name: str, kind: str) -> list[str]:
    """Values that are no measurements: infinite, or further from the median than all reason."""
    present = column[~column.isnan()]
    if kind == "binary":
        wrong = present[(present != 0) & (present != 1)]
        return [f"{name}: {float(wrong[0]):g} is neither 0 nor 1"] if len(wrong) else []
    if not len(present):
        return []
    distance = (column - present.median()).abs()
    typical = max(float(distance[~distance.isnan()].median()), float(present.median().abs())) or 1.0
    rows = (~column.isnan() & ~(distance <= ABSURD * typical)).nonzero().flatten().tolist()
    return [f"{name}: {float(column[row]):.3g} in sample {row}" for row in rows]


def _uninformative(task: Task, column: Tensor, name: str) -> list[str]:
    """A target that says nothing in one of the splits."""
    lines = []
    for split, index in task.splits.items():
        present = column[index][~column[index].isnan()]
        if not len(present):
            lines.append(f"{name} has no label in {split}")
        elif len(torch.unique(present)) == 1:
            lines.append(f"{name} is {'of one class' if task.kind == 'binary' else 'constant'} in {split}")
    return lines


def _shown(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return ", ".join(lines[:NAMED]) + more


@point("5", "a batch is what models and methods expect",
       "collate(index) answers an object with len, y, select(index) and to(device), equal for equal indices; see "
       "sam_bench.api.Batch.")  # fmt: skip
def batches(subject: DataSubject) -> str:
    """len, y, select, to, finite inputs, the same batch twice, and augmentation as a function of its generator."""
    task, index = subject.task, subject.task.splits["train"][:6]
    batch = task.collate(index)
    labelled = 0 if batch.y is None else len(batch.y)
    if batch.y is None or {len(batch), labelled} != {len(index)}:
        raise Broken(f"a batch of {len(index)} has length {len(batch)} and {labelled} labels")
    if not _equal(batch.y, task.targets[index]):
        raise Broken("the labels of a batch are not those of its samples")
    part = torch.tensor([4, 1])
    _same_batch(batch.select(part), task.collate(index[part]), "select(index) is not collate of those samples")
    _same_batch(batch.to("cpu"), batch, "to(device) changes the batch")
    _same_batch(task.collate(index), batch, "the same samples give another batch without augmentation")
    _all_finite(task)
    first, second = (task.collate(index, train=True, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    _same_batch(first, second, "one generator state gives two augmentations")
    return f"{', '.join(_tensors(batch))}: finite, and the same twice"


def _all_finite(task: Task) -> None:
    """Raise Broken for an input that is not finite: of all samples, or of a random sample of a large data set."""
    index = torch.arange(len(task.source))
    if len(index) > LARGE:
        index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:SAMPLED]]
    for part in torch.split(index, 256):
        for name, value in _tensors(task.collate(part)).items():
            if name != "y" and value.is_floating_point() and not value.isfinite().all():
                wrong = next(i for i in part.tolist() if not _finite(task.collate(torch.tensor([i])), name))
                raise Broken(f"an input is not finite ({name} of sample {wrong})")


def _finite(batch: Batch, name: str) -> bool:
    return bool(_tensors(batch)[name].isfinite().all())


def _tensors(batch: Batch) -> dict[str, Tensor]:
    found = {name: getattr(batch, name, None) for name in FIELDS}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _same_batch(a: Batch, b: Batch, otherwise: str) -> None:
    left, right = _tensors(a), _tensors(b)
    if left.keys() != right.keys() or not all(_equal(left[name], right[name]) for name in left):
        raise Broken(otherwise)


@point("6", "reading from the cache is reading fresh",
       "Let the cache's name say all that its content depends on, and keep numbers as they are.")  # fmt: skip
def cache(subject: DataSubject) -> str:
    """Labels, splits and the first batches of a reading without any cache; of a large data set a random sample.

    Labels are never cached: point 2 reads them twice.
    """
    if subject.fresh is None:
        raise NotApplicable("it keeps no cache")
    task = subject.task
    if len(task.source) > LARGE:
        index = torch.randperm(len(task.source), generator=torch.Generator().manual_seed(0))[:SAMPLED].sort().values
        if (sample := subject.fresh_sample(task.source, index)) is not None:
            return _equal_sample(task.source, index, sample)
    fresh = subject.fresh(0)
    if (task.data_sha256, task.split_sha256) != (fresh.data_sha256, fresh.split_sha256):
        raise Broken("labels or splits differ")
    index = torch.arange(min(len(task.source), 2048))
    for part in torch.split(index, 256):
        _same_batch(task.collate(part), fresh.collate(part), f"the batch from sample {int(part[0])} on differs")
    return f"{len(index)} samples are equal to the last bit"


def _equal_sample(cached: Source, index: Tensor, fresh: Source) -> str:
    for part in torch.split(torch.arange(len(index)), 256):
        left = cached.collate(index[part], train=False, generator=None)
        right = fresh.collate(part, train=False, generator=None)
        _same_batch(left, right, f"the batch from sample {int(index[part[0]])} on differs")
    return f"{len(index)} of {len(cached)} samples, drawn with a fixed seed, are equal to the last bit"


POINTS: tuple[Point, ...] = (cover, reproducible, leaks, labels, batches, cache)


def dataset_contract(read: Read, *, name: str = "data", fresh: Read | None = None,
                     points: Sequence[Point] = POINTS) -> Report:  # fmt: skip
    """Hold a data set to the points of docs/check.md.

    `read(split_seed)` gives its task, `fresh(split_seed)` the same without a cache. `report.demand()` raises
    AssertionError where a point failed; findings do not count.
    """
    return check(DataSubject(name, read, fresh), points)


def check(subject: DataSubject, points: Sequence[Point] = POINTS) -> Report:
    """The report on a subject that is made already."""
    task = subject.task
    sizes = {name: len(index) for name, index in task.splits.items()}
    about = {"samples": len(task.source), "outputs": task.num_outputs, "kind": task.kind, "verified": task.verified}
    return Report("dataset", subject.name, results(points, subject), {**about, **sizes, "notes": list(task.notes)})


def of_config(config: Mapping[str, Any], name: str, data_dir: Path) -> DataSubject:
    """The data set of a resolved configuration; `fresh` sees the same data folder without its cache."""
    from sam_bench.config.build import build_task

    def read(split_seed: int) -> Task:
        task: Task = build_task({**config, "split_seed": split_seed}, data_dir)
        return task

    def fresh(split_seed: int) -> Task:
        with tempfile.TemporaryDirectory(prefix="sam_bench-fresh-") as folder:
            for path in data_dir.iterdir() if data_dir.is_dir() else ():
                if path.name != "cache":
                    (Path(folder) / path.name).symlink_to(path)
            task: Task = build_task({**config, "split_seed": split_seed}, Path(folder))
        return task

    def fresh_sample(source: Source, index: Tensor) -> Source | None:
        from sam_bench.datasets.molecules.assemble import Molecules, read_again

        options = {key: dataset[key] for key in ("split", "features", "max_atoms") if key in dataset}
        # Descriptors are scaled by all molecules of the train split, so a sample of them cannot be compared.
        if not isinstance(source, Molecules) or len(options) < 3 or dataset.get("descriptors"):
            return None
        try:
            return read_again(source, index, data_dir=data_dir, **options)
        except ValueError as error:
            raise Broken(str(error)) from error

    dataset = config["dataset"]
    if dataset["modality"] != "molecule":
        return DataSubject(name, read)
    return DataSubject(name, read, fresh, fresh_sample)
