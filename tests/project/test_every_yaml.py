"""One real training step of every model, data set, schedule, train, base and experiment YAML.

A YAML may parse and its `_target_` may import, and still name a depth that the network cannot have. Here each is built
by the code that builds a run, at its real size, on a few samples, and takes one step.
"""

from dataclasses import replace

import pytest
import torch
import yaml

from sam_bench.config import compose, files
from sam_bench.datasets import catalogue
from sam_bench.datasets.images import cifar
from sam_bench.datasets.molecules import embedded, moleculenet, ogb, usercsv
from sam_bench.datasets.molecules.assemble import assemble
from sam_bench.training import life, precision

MOLECULES = 300  # of a set, evenly spread: enough for a scaffold split
IMAGES = 5000  # of CIFAR's training images: what the smallest experiment asks for
STEP = ["train.max_steps=1", "device=cpu"]
HEAVY = {"grover_large", "grover_base", "wrn28_10", "pyramidnet110", "sam_cifar10", "sam_cifar100"}  # seconds each


def stems(group: str) -> list:
    found = sorted(path.stem for path in (files.config_dir() / group).glob("*.yaml"))
    return [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in found]


def yaml_of(group: str, name: str) -> dict:
    return yaml.safe_load((files.config_dir() / group / f"{name}.yaml").read_text())


def thinned(table, *, official=None, **options):
    """The task of some rows of a table."""
    every = max(1, len(table.smiles) // MOLECULES)
    if official:
        official = {name: rows[rows % every == 0] // every for name, rows in official.items()}
    rows = slice(None, None, every)
    fewer = replace(table, smiles=table.smiles[rows], targets=table.targets[rows], lines=table.lines[rows])
    return assemble(fewer, official=official, **options)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch, tmp_path):
    """Data sets are read as always, but few of their rows are used, and four of them are trained on."""
    read, build = cifar.read, life.build_task

    def few_images(found, classes, verify):
        images, labels, notes, train_size = read(found, classes, verify)
        kept = min(IMAGES, train_size)
        chosen = [*range(kept), *range(train_size, min(train_size + 100, len(labels)))]
        return images[chosen], labels[chosen], notes, kept

    def tiny(config, data_dir):
        task = build(config, data_dir)
        return replace(task, splits={name: index[:4] for name, index in task.splits.items()})

    monkeypatch.setattr(cifar, "read", few_images)
    monkeypatch.setattr(life, "build_task", tiny)
    for module in (embedded, moleculenet, ogb, usercsv):
        monkeypatch.setattr(module, "assemble", thinned)
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path / "data"))


def one_step(*words: str):
    """Build a run of these words and train for one step; its trainer."""
    (cell,) = compose.compose_specs([*words, *STEP])
    device = torch.device("cpu")
    trainer = life.build_trainer(cell, device, precision.choose(cell.config, device))
    before = [p.detach().clone() for p in trainer.model.parameters()]
    schedule_starts_at_0 = trainer.schedule(0.0, trainer.options.epochs) == 0
    trainer.fit(save=lambda state: None, report=lambda info: None, stop=lambda: False, log=lambda row: None)
    assert trainer.step == 1
    assert torch.isfinite(torch.tensor(trainer.curve[0]["train/loss"]))
    moved = any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    assert moved != schedule_starts_at_0
    return trainer


@pytest.mark.parametrize("name", stems("model"))
def test_model(name):
    images = "image" in yaml_of("model", name)["accepts"]
    dataset = "digits" if images else "chembl2321810"
    one_step(f"model={name}", f"dataset={dataset}", "base=sgd", "base.lr=1e-4", "optimizer=erm")


@pytest.mark.parametrize("group", ["base", "schedule", "train"])
def test_base_schedule_train(group):
    for name in stems(group):
        one_step(f"{group}={name}", "dataset=digits", "model=fastnet_tiny", "optimizer=sam")


@pytest.fixture
def real_data(data_dir, monkeypatch, tmp_path):
    """The data sets that are at hand, with a cache of this test's own."""
    for path in data_dir.iterdir():
        if path.name != "cache":
            (tmp_path / "data").mkdir(exist_ok=True)
            (tmp_path / "data" / path.name).symlink_to(path)
    return tmp_path / "data"


def at_hand(name: str, data_dir) -> bool:
    (row,) = catalogue.listing(files.read_group("dataset", [name]), data_dir)
    return row.state != "absent"


def unverified(name: str) -> list[str]:
    """The words that use a data set as it is."""
    return ["dataset.verify=false"] if "verify" in yaml_of("dataset", name) else []


@pytest.mark.parametrize("name", stems("dataset"))
def test_data_set(name, real_data, tmp_path):
    words = unverified(name)
    if name == "csv":
        (tmp_path / "my.csv").write_text("SMILES,y\n" + "".join(f"{'C' * n}O,{n}\n" for n in range(1, 41)))
        words = [f"dataset.path={tmp_path / 'my.csv'}", "dataset.split=random"]
    model = "fastnet_tiny" if yaml_of("dataset", name)["modality"] == "image" else "grover_small"
    words = [f"dataset={name}", f"model={model}", "optimizer=erm", *words]
    if at_hand(name, real_data):
        one_step(*words)
    else:  # nothing to read: its keys and values are checked all the same
        compose.compose_specs(words)


@pytest.mark.parametrize("name", stems("experiment"))
def test_experiment(name, real_data):
    """The first cell of the grid; the other choices on its axes are YAML files of their own."""
    config = yaml_of("experiment", name)
    grid = {key: values for key, values in config["hydra"]["sweeper"]["params"].items() if key != "tuned"}  # of `sweep`
    first = [f"{key}={str(values).split(',')[0]}" for key, values in grid.items()]
    (cell,) = compose.compose_specs([f"experiment={name}", *first])
    one_step(f"experiment={name}", *first, *unverified(cell.labels["dataset"]))
