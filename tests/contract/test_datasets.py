"""The checks of data sets can fail: one mistake each, failures and findings told apart."""

import dataclasses

import numpy as np
import pytest
import torch

from sam_bench.config.compose import compose_specs
from sam_bench.contract import Verdict, dataset_contract, datasets
from sam_bench.datasets.split import checksum
from sam_bench.datasets.task import Task

SMILES = ["CCO", "CCN", "CC(=O)O", "c1ccccc1", "CCCC", "CC(C)O", "CCOC", "CNC(C)=O", "CCS", "OCCO", "CCCl", "CC#N",
          "CCBr", "CCF", "CCCN", "CCCO", "CC=O", "C1CC1", "C1CCC1", "CCC#N"]  # fmt: skip


def write(path, smiles=SMILES, labels=None):
    labels = labels or [str(0.5 * i) for i in range(len(smiles))]
    path.write_text("smiles,y\n" + "".join(f"{text},{y}\n" for text, y in zip(smiles, labels, strict=True)))


def report_of(path, *words):
    words = ["dataset=csv", f"dataset.path={path}", "dataset.split=random", "dataset.fractions=[0.6,0.2,0.2]", *words]
    return datasets.check(datasets.of_config(compose_specs(words)[0].config, "mine", path.parent))


def verdicts(report) -> dict:
    return {result.point: result.verdict for result in report.results if result.verdict is not Verdict.PASSED}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.csv"


def test_a_sound_file_passes(path):
    write(path)
    report = report_of(path)
    assert not verdicts(report), report.results
    assert report.measured["samples"] == 20


def test_the_same_molecule_in_another_spelling_is_a_finding(path):
    write(path, [*SMILES[:-6], "OCC", "NCC", "OC(C)=O", "C1=CC=CC=C1", "C(C)CC", "OC(C)C"])
    report = report_of(path)
    assert verdicts(report) == {"3": Verdict.FINDING}
    assert report.passed
    seen = next(result.seen for result in report.results if result.point == "3")
    assert "also in" in seen or "copies within train" in seen


def test_copies_that_contradict_each_other_are_counted(path):
    write(path, [SMILES[0]] * 20, labels=[str(i % 2) for i in range(20)])
    seen = next(result.seen for result in report_of(path).results if result.point == "3")
    assert "copies within train" in seen
    assert "with another label than the first" in seen
    write(path, [SMILES[0]] * 20, labels=["1.5"] * 20)
    assert "all with equal labels" in next(r.seen for r in report_of(path).results if r.point == "3")


@pytest.mark.parametrize(("labels", "words", "verdict", "said"), [
    ([*["1.5"] * 19, "1e30"], (), Verdict.FAILED, "1e\\+30 in sample 19"),
    (["2.0"] * 20, (), Verdict.FINDING, "y is constant in train"),
    ([*["0.5"] * 10, *(str(i) for i in range(8)), "", ""], (), Verdict.FINDING, "2 of 20 labels are missing"),
    (["1"] * 20, ("dataset.kind=binary",), Verdict.FINDING, "y is of one class in train"),
])  # fmt: skip
def test_labels_that_say_nothing_or_too_much(path, labels, words, verdict, said):
    import re

    write(path, labels=labels)
    report = report_of(path, *words)
    assert verdicts(report) == {"4": verdict}
    (result,) = [result for result in report.results if result.point == "4"]
    assert re.search(said, result.seen)
    assert result.advice


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    path = tmp_path_factory.mktemp("task") / "mine.csv"
    write(path)
    words = ["dataset=csv", f"dataset.path={path}", "dataset.split=random", "dataset.fractions=[0.6,0.2,0.2]"]
    return datasets.of_config(compose_specs(words)[0].config, "mine", path.parent).task


def changed(task: Task, **parts) -> Task:
    new = dataclasses.replace(task, **parts)
    new.split_sha256 = checksum(new.splits)
    return new


def test_splits_that_share_or_lose_samples(task):
    twice = {**task.splits, "test": task.splits["train"][:4]}
    report = dataset_contract(lambda seed: changed(task, splits=twice), points=[datasets.cover])
    assert [(r.verdict, r.seen) for r in report.results] == [
        (Verdict.FAILED, "4 of 20 samples are in more than one place")
    ]
    fewer = {**task.splits, "train": task.splits["train"][:-2]}
    report = dataset_contract(lambda seed: changed(task, splits=fewer), points=[datasets.cover])
    assert report.results[0].verdict is Verdict.FINDING


def test_a_split_that_is_drawn_anew(task):
    def read(seed):
        order = torch.randperm(20)
        return changed(task, splits=dict(zip(task.splits, order.split([12, 4, 4]), strict=True)))

    report = dataset_contract(read, points=[datasets.reproducible])
    assert [r.seen for r in report.failed] == ["the same split_seed gives another split"]


class NoisySource:
    """Gives another batch every time."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def collate(self, index, *, train, generator):
        batch = self.source.collate(index, train=train, generator=generator)
        batch.x = batch.x + torch.rand(())
        return batch


def test_batches_that_change(task):
    noisy = changed(task, source=NoisySource(task.source))
    report = dataset_contract(lambda seed: noisy, points=[datasets.batches])
    assert report.failed


class OneNaN(NoisySource):
    """A NaN in the last sample alone."""

    def collate(self, index, *, train, generator):
        batch = self.source.collate(index, train=train, generator=generator)
        batch.x = batch.x.float()
        for molecule in (index == len(self) - 1).nonzero().flatten().tolist():
            batch.x[batch.batch == molecule] = torch.nan
        return batch


def test_an_input_that_is_not_finite_is_found_wherever_it_is(task):
    wrong = changed(task, source=OneNaN(task.source))
    report = dataset_contract(lambda seed: wrong, points=[datasets.batches])
    assert [result.seen for result in report.failed] == [f"an input is not finite (x of sample {len(task.source) - 1})"]


def test_a_cache_that_is_stale(task):
    stale = changed(task, targets=task.targets + 1, data_sha256="other")
    report = dataset_contract(lambda seed: task, fresh=lambda seed: stale, points=[datasets.cache])
    assert [r.seen for r in report.failed] == ["labels or splits differ"]
    noisy = changed(task, source=NoisySource(task.source))
    report = dataset_contract(lambda seed: task, fresh=lambda seed: noisy, points=[datasets.cache])
    assert "the batch from sample 0 on differs" in report.failed[0].seen


def test_of_a_large_data_set_a_sample_is_read_without_the_cache(path, monkeypatch):
    monkeypatch.setattr(datasets, "LARGE", 10)
    monkeypatch.setattr(datasets, "SAMPLED", 8)
    write(path, [f"C1{'C' * size}C1" for size in range(1, 21)])  # each is its own scaffold
    words = ("dataset.split=scaffold_balanced",)
    last = report_of(path, *words).results[-1]
    assert last.verdict is Verdict.PASSED
    assert last.seen.startswith("8 of 20 samples")
    (cached,) = (path.parent / "cache").glob("grover-*.npz")
    with np.load(cached) as file:
        arrays = dict(file)
    arrays["atom_table"][:, 0] += 1
    np.savez(cached, **arrays)
    assert "on differs" in report_of(path, *words).failed[0].seen
    cached.unlink()
    (groups,) = (path.parent / "cache").glob("scaffolds-*.txt")
    groups.write_text("\n".join(f"C{i}" for i in range(20)))
    assert "scaffolds in the cache" in report_of(path, *words).failed[0].seen


def test_digits_have_no_cache_and_pass():
    config = compose_specs(["dataset=digits", "model=fastnet_tiny"])[0].config
    report = datasets.check(datasets.of_config(config, "digits", None))
    assert report.passed
    assert verdicts(report)["6"] is Verdict.NOT_APPLICABLE
