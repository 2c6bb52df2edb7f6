"""The task: loss, prediction, masks, splits; and what is known of the real molecule sets."""

import gzip
import pkgutil
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from sam_bench.config import files
from sam_bench.datasets.molecules import assemble as assembling
from sam_bench.datasets.molecules import table
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.metrics import SUITABLE


class Rows:
    """A source whose batch holds nothing but the index."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def collate(self, index, *, train, generator):
        return type("Batch", (), {"index": index, "y": None})()

    def to(self, device):
        return self


def make_task(kind, targets, **changes) -> Task:
    n = len(targets)
    parts = {"train": torch.arange(n - 2), "valid": torch.tensor([n - 2]), "test": torch.tensor([n - 1])}
    outputs = targets.shape[1] if targets.dim() == 2 else 3
    fields = dict(
        name="made", modality="molecule", kind=kind, num_outputs=outputs, inputs={}, source=Rows(n),
        metric=SUITABLE.get(kind, ("rmse",))[0], targets=targets, splits=parts, data_sha256="", verified=True,
    )  # fmt: skip
    return Task(**{**fields, **changes})


@pytest.fixture
def labels():
    torch.manual_seed(0)
    y = torch.randn(8, 3) * 5 + 20
    y[0, 0] = y[1, 2] = y[5, 1] = torch.nan
    return y


def test_regression_is_standardised_by_the_train_split_and_predicted_in_its_units(labels):
    task = make_task("regression", labels)
    train = labels[:6].numpy().astype(float)
    assert np.allclose(task.mean, np.nanmean(train, 0), atol=1e-5)
    assert np.allclose(task.std, np.nanstd(train, 0), atol=1e-5)
    perfect = ((labels - task.mean) / task.std).nan_to_num()
    batch = task.collate(torch.arange(8))
    assert task.loss(perfect, batch).abs().max() < 1e-10
    present = ~labels.isnan()
    assert torch.allclose(task.predict(perfect)[present], labels[present], atol=1e-4)


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_the_mean_of_the_losses_is_the_mean_over_the_labels_that_exist(kind, labels):
    y = labels if kind == "regression" else torch.where(labels.isnan(), labels, (labels > 20).float())
    task = make_task(kind, y)
    batch = task.collate(torch.tensor([5, 0, 1, 3]))
    output = torch.randn(4, 3)
    present = ~batch.y.isnan()
    if kind == "regression":
        each = (output - (batch.y - task.mean) / task.std) ** 2
    else:
        each = F.binary_cross_entropy_with_logits(output, batch.y.nan_to_num(), reduction="none")
    assert task.loss(output, batch).shape == (4,)
    assert torch.allclose(task.loss(output, batch).mean(), each[present].mean())


def test_a_missing_label_gets_no_gradient_and_none_at_all_is_no_nan(labels):
    task = make_task("binary", torch.where(labels.isnan(), labels, (labels > 20).float()))
    output = torch.randn(2, 3, requires_grad=True)
    task.loss(output, task.collate(torch.tensor([0, 1]))).mean().backward()
    assert (output.grad == 0).nonzero().tolist() == [[0, 0], [1, 2]]
    nothing = make_task("binary", torch.full((5, 1), torch.nan))
    assert nothing.loss(torch.randn(2, 1), nothing.collate(torch.tensor([0, 1]))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["regression", "binary", "multiclass"])
def test_heads_add_up_and_disagreement_is_their_squared_difference(kind, labels):
    y = {"regression": labels, "binary": (labels > 20).float(), "multiclass": torch.arange(8) % 3}[kind]
    task = make_task(kind, y)
    batch = task.collate(torch.arange(8))
    heads = torch.randn(2, 8, 3)
    alone = [task.loss(head, batch) for head in heads]
    assert torch.allclose(task.loss(heads, batch), alone[0] + alone[1])
    gap = (heads[0] - heads[1]) ** 2
    present = ~batch.y.isnan() if kind != "multiclass" else torch.ones(8, 3, dtype=torch.bool)
    added = (
        task.loss(heads, batch, penalty=lambda output: 0.5 * (output[0] - output[1]).square()) - task.loss(heads, batch)
    ).mean()
    assert torch.allclose(added, 0.5 * gap[present].mean(), atol=1e-5)
    one_by_one = torch.stack([task.predict(head) for head in heads]).mean(0)
    assert torch.allclose(task.predict(heads), one_by_one, atol=1e-6)


def test_probabilities():
    classes = make_task("multiclass", torch.arange(8) % 3).predict(torch.randn(8, 3))
    assert torch.allclose(classes.sum(1), torch.ones(8))
    binary = make_task("binary", torch.ones(8, 3)).predict(torch.zeros(2, 8, 3))
    assert (binary == 0.5).all()


def test_label_smoothing(labels):
    output = torch.randn(8, 3)
    task = make_task("multiclass", torch.arange(8) % 3)
    expected = F.cross_entropy(output, torch.arange(8) % 3, label_smoothing=0.1)
    assert torch.allclose(task.loss(output, task.collate(torch.arange(8)), label_smoothing=0.1).mean(), expected)
    task = make_task("binary", torch.ones(8, 3))
    expected = F.binary_cross_entropy_with_logits(output, torch.full((8, 3), 0.95))
    assert torch.allclose(task.loss(output, task.collate(torch.arange(8)), label_smoothing=0.1).mean(), expected)
    task = make_task("regression", labels)
    with pytest.raises(UsageError, match="regression"):
        task.loss(output, task.collate(torch.arange(8)), label_smoothing=0.1)


def test_half_precision_outputs_are_scored_in_single():
    task = make_task("binary", torch.ones(8, 3))
    assert task.loss(torch.randn(8, 3).bfloat16(), task.collate(torch.arange(8))).dtype == torch.float32


def test_a_task_that_contradicts_itself_is_refused(labels):
    with pytest.raises(ValueError, match="kind"):
        make_task("ordinal", labels)
    with pytest.raises(ValueError, match="samples"):
        make_task("binary", labels, source=Rows(3))
    with pytest.raises(UsageError, match="valid"):
        make_task("regression", labels, splits={
            "train": torch.arange(8), "valid": torch.arange(0), "test": torch.arange(1)})  # fmt: skip
    with pytest.raises(UsageError, match="no value"):
        make_task("regression", torch.full((5, 1), torch.nan))


@pytest.mark.parametrize(("kind", "targets"), [
    ("regression", torch.ones(8)), ("binary", torch.ones(8)), ("regression", torch.ones(8, 2, dtype=torch.long)),
    ("multiclass", torch.ones(8)), ("multiclass", torch.ones(8, 1, dtype=torch.long)),
])  # fmt: skip
def test_targets_of_another_form_are_refused(kind, targets):
    with pytest.raises(ValueError, match=f"made: targets are .*; {kind} needs"):
        make_task(kind, targets)
    with pytest.raises(ValueError, match="targets are"):
        make_task("regression", torch.ones(8, 2), num_outputs=3)


def test_an_output_of_another_form_is_refused_and_not_broadcast():
    """(n,) against (n, 1) would become (n, n), a number that nobody asked for."""
    task = make_task("regression", torch.randn(8, 1))
    batch = task.collate(torch.arange(6))
    assert task.loss(torch.randn(6, 1), batch).shape == task.loss(torch.randn(2, 6, 1), batch).shape == (6,)
    for wrong in (torch.randn(6), torch.randn(6, 2), torch.randn(1, 1), torch.randn(1, 5, 1)):
        with pytest.raises(UsageError, match=r"the model returned \(.*\): made needs .* = \(6, 1\)"):
            task.loss(wrong, batch)


# -- molecules ---------------------------------------------------------------------------------------------------------


def config(name, **changes) -> dict:
    path = files.config_dir() / "dataset" / f"{name}.yaml"
    return {**OmegaConf.to_container(OmegaConf.load(path), resolve=True), **changes}


def load(name, data_dir, split_seed=0, **changes) -> Task:
    keys = config(name, **changes)
    return pkgutil.resolve_name(keys.pop("_target_"))(**keys, data_dir=data_dir, split_seed=split_seed)


def assemble(rows, tmp_path, **changes) -> Task:
    path = tmp_path / "rows.csv"
    path.write_text("smiles,a,b\n" + "\n".join(rows) + "\n")
    keys = dict(
        name="made", modality="molecule", kind="binary", metric="roc_auc", split="random", fractions=(0.6, 0.2, 0.2),
        split_seed=0, features="grover", descriptors=False, data_dir=tmp_path, verified=True,
    )  # fmt: skip
    return assembling.assemble(table.read_csv_table(path, None, None, "binary"), **{**keys, **changes})


ROWS = ["C,0,1", "nonsense,1,0", "CO,0,0", ",1,1", "CCN,0,1", "CCC,0,0", "c1ccccc1,0,1"]


def test_unparsable_smiles_are_counted_warned_of_and_left_out_and_their_lines_named(tmp_path, caplog):
    task = assemble(ROWS, tmp_path)
    assert len(task.targets) == 5
    assert sorted(torch.cat(list(task.splits.values())).tolist()) == [0, 1, 2, 3, 4]
    (note,) = [note for note in task.notes if "parsed" in note]
    assert "2 of 7" in note
    assert note.endswith("left out: lines 3, 5")
    assert "nonsense" not in note  # a record may be published, what the file holds need not be
    assert "2 of 7 SMILES cannot be parsed" in caplog.text
    assert task.targets[:, 1].tolist() == [1, 0, 1, 0, 1]


def test_a_target_with_one_class_is_reported_by_name(tmp_path):
    notes = " ".join(assemble(ROWS, tmp_path).notes)
    assert "have one class only in train: a" in notes
    assert "in test: a, b" in notes


def test_batches_carry_their_labels_and_the_cache_gives_the_same(tmp_path):
    first, again = assemble(ROWS, tmp_path), assemble(ROWS, tmp_path)
    assert list((tmp_path / "cache").iterdir())
    one, other = (task.collate(torch.tensor([4, 0])) for task in (first, again))
    assert torch.equal(one.x, other.x)
    assert one.num_graphs == 2
    assert one.y.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert one.select(torch.tensor([1])).y.tolist() == [[0.0, 1.0]]
    assert first.split_sha256 == again.split_sha256
    assert first.data_sha256 == again.data_sha256


def test_split_and_kind_that_do_not_exist(tmp_path):
    with pytest.raises(UsageError, match="no official split"):
        assemble(ROWS, tmp_path, split="official")
    with pytest.raises(UsageError, match="multiclass"):
        assemble(ROWS, tmp_path, kind="multiclass")
    with pytest.raises(UsageError, match="rmse is no metric of binary targets: use metric=roc_auc"):
        assemble(ROWS, tmp_path, metric="rmse")
    with pytest.raises(UsageError, match=r"feature set .*Did you mean .ogb"):
        assemble(ROWS, tmp_path, features="ogbb")


def test_descriptors_are_scaled_by_the_train_split(tmp_path):
    task = assemble([f"{'C' * n}O,0,1" for n in range(1, 11)], tmp_path, descriptors=True)
    found = task.collate(task.splits["train"]).descriptors
    assert found.shape[1] == task.inputs["descriptors"] > 0
    assert found.mean(0).abs().max() < 1e-3


@pytest.mark.parametrize(("name", "rows", "kept"), [("chembl2321810", 1017, 1017), ("nci_tpsa", 4999, 4991)])
def test_sets_inside_rdkit(name, rows, kept, tmp_path):
    task = load(name, tmp_path)
    assert task.verified
    assert len(task.targets) == kept
    assert rows == kept or f"{rows - kept} of {rows} SMILES" in task.notes[0]
    assert task.split_sha256 != load(name, tmp_path, split_seed=1).split_sha256


def test_another_release_of_an_embedded_set_is_not_verified(tmp_path):
    task = load("chembl2321810", tmp_path, sha256="0")
    assert not task.verified
    assert "other data" in task.notes[0]


# name: rows in the file, rows that RDKit 2026.09 cannot parse, outputs, whether the bytes are proven
FACTS = {
    "bbbp": (2050, 11, 1, True),
    "esol": (1128, 0, 1, True),
    "lipophilicity": (4200, 0, 1, True),
    "sider": (1427, 0, 27, True),
    "tox21": (7831, 8, 12, False),
    "clintox": (1484, 4, 2, False),
    "bace": (1513, 0, 1, False),
    "freesolv": (642, 0, 1, False),
}


@pytest.mark.data
@pytest.mark.parametrize("name", FACTS)
def test_facts_of_moleculenet(name, data_dir):
    rows, lost, outputs, verified = FACTS[name]
    task = load(name, data_dir)
    assert (len(task.targets), task.num_outputs, task.verified) == (rows - lost, outputs, verified)
    assert bool(lost) == any(f"{lost} of {rows} SMILES" in note for note in task.notes)
    assert verified or any("not verified" in note for note in task.notes)
    assert task.targets.isnan().any() == (name == "tox21")
    sizes = [len(index) for index in task.splits.values()]
    assert sum(sizes) == len(task.targets)
    assert abs(sizes[0] - 0.8 * sum(sizes)) < 2


@pytest.mark.data
def test_esol_has_1123_distinct_smiles(data_dir):
    keys = config("esol")
    found = table.read_csv_table(
        data_dir / "moleculenet" / keys["file"]["name"], keys["smiles"], keys["targets"], "regression"
    )
    assert (len(found.smiles), len(set(found.smiles))) == (1128, 1123)


@pytest.mark.data
def test_hiv_is_refused_as_it_is_and_works_unverified(data_dir):
    with pytest.raises(UsageError, match=r"HIV.csv is not the published file.*dataset\.verify=false"):
        load("hiv", data_dir)
    keys = config("hiv")
    found = table.read_csv_table(data_dir / "moleculenet" / "HIV.csv", keys["smiles"], keys["targets"], "binary")
    theirs = table.read_csv_table(
        data_dir / "ogb" / "ogbg_molhiv" / "mapping" / "mol.csv.gz", "smiles", ["HIV_active"], "binary"
    )
    assert found.sha256() == theirs.sha256()  # the same molecules, labels and order as OGB's
    assert len(found.smiles) == 41127


@pytest.mark.data
def test_both_layouts_of_the_same_data_are_the_same_data(data_dir, tmp_path):
    source = data_dir / "moleculenet" / "chemprop_format" / "sider.csv"
    folder = tmp_path / "moleculenet" / "chemprop_format"
    folder.mkdir(parents=True)
    (folder / "sider.csv.gz").write_bytes(gzip.compress(source.read_bytes()))
    official, chemprop = load("sider", data_dir), load("sider", tmp_path)
    assert (official.verified, chemprop.verified) == (True, False)
    assert official.data_sha256 == chemprop.data_sha256
    assert official.split_sha256 == chemprop.split_sha256
    assert official.target_names == chemprop.target_names


@pytest.mark.data
def test_a_spoilt_official_file_is_refused_and_works_when_told_to(data_dir, tmp_path):
    shutil.copy(data_dir / "moleculenet" / "delaney-processed.csv", tmp_path)
    with (tmp_path / "delaney-processed.csv").open("a") as stream:
        stream.write("x,0,0,0,0,0,0,0,-1.5,CCO\n")
    with pytest.raises(UsageError, match="not the published file"):
        load("esol", tmp_path)
    task = load("esol", tmp_path, verify=False)
    assert len(task.targets) == 1129
    assert not task.verified


@pytest.mark.data
def test_a_random_split_leaves_toxcast_targets_with_one_class(data_dir):
    found = table.read_csv_table(data_dir / "moleculenet" / "chemprop_format" / "toxcast.csv.gz", None, None, "binary")
    assert found.targets.shape == (8576, 617)
    targets = torch.from_numpy(found.targets).float()
    notes = assembling.one_class(targets, {"test": torch.arange(800)}, found.target_names)
    assert "have one class only in test" in notes[0]
