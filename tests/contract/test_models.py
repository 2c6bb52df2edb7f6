"""The checks of models can fail: small models with one mistake each; the built-in small ones pass."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sam_bench.config.compose import compose_specs
from sam_bench.contract import Verdict, model_contract, model_subject, models
from sam_bench.datasets.images.arrays import Images
from sam_bench.datasets.images.augment import Augment
from sam_bench.datasets.task import Task

CLASSES, SIZE = 3, 4


@pytest.fixture(scope="module")
def task() -> Task:
    """Twenty grey images of random pixels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, 1, SIZE, SIZE), generator=generator, dtype=torch.uint8).numpy()
    augment = Augment.from_options(
        {"flip": False, "pad": 0, "cutout": 0, "cutout_probability": 1.0, "randaugment": None}, size=SIZE
    )
    parts = torch.arange(20).split([12, 4, 4])
    return Task(
        name="noise", modality="image", kind="multiclass", num_outputs=CLASSES, metric="accuracy",
        inputs={"channels": 1, "size": SIZE}, source=Images.pack(pixels, [0.5], [0.3], augment),
        targets=torch.randint(0, CLASSES, (20,), generator=generator),
        splits=dict(zip(("train", "valid", "test"), parts, strict=True)), data_sha256="", verified=True,
    )  # fmt: skip


class Sound(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(SIZE * SIZE, 8), nn.Linear(8, CLASSES)
        self.drop = nn.Dropout(0.2)

    def forward(self, batch):
        return self.last(self.hidden(batch.x.flatten(1)))

    def hidden(self, x):
        return self.drop(torch.tanh(self.first(x)))


class WrongShape(Sound):
    def forward(self, batch):
        return super().forward(batch)[:, :-1]


class ZeroGain(Sound):
    """As GROVER's published initialisation: what lies behind a gain of zero gets no gradient."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(8))

    def hidden(self, x):
        return super().hidden(x) * self.gain


class ReadsItsNeighbours(Sound):
    def hidden(self, x):
        h = super().hidden(x)
        return h - h.mean(0)


class DropsInEvaluation(Sound):
    def hidden(self, x):
        return nn.functional.dropout(torch.tanh(self.first(x)), 0.1, training=True)


class KeepsASecret(Sound):
    """A constant that is drawn and not saved."""

    def __init__(self):
        super().__init__()
        self.shift = torch.randn(8)

    def hidden(self, x):
        return super().hidden(x + 0) + self.shift


class DrawsElsewhere(Sound):
    draws = torch.Generator().manual_seed(0)

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.last.weight.normal_(generator=self.draws)


class OverflowsInBf16(Sound):
    """A difference of large numbers, of which bf16 has eight bits."""

    def hidden(self, x):
        h = self.first(x)
        return (h + 300.0) - 300.0


class CountsPasses(Sound):
    """The output of a training pass depends on how many there were, which no state says."""

    passes = 0

    def hidden(self, x):
        if self.training:
            type(self).passes += 1
            return super().hidden(x) * (1 + 0.01 * self.passes)
        return super().hidden(x)


BROKEN = {
    Sound: set(),
    WrongShape: {"1"},
    ZeroGain: {"2"},
    ReadsItsNeighbours: {"3"},
    DropsInEvaluation: {"3", "5", "6", "8"},  # an output that changes by itself equals nothing
    KeepsASecret: {"6", "9"},
    DrawsElsewhere: {"7"},
    OverflowsInBf16: {"8"},
    CountsPasses: {"7", "9"},
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_exactly_the_right_points_fail(kind, task):
    points = models.POINTS[:1] if kind is WrongShape else models.POINTS  # without a loss nothing else can be said
    report = model_contract(kind, task, name=kind.__name__, points=points)
    assert {result.point for result in report.failed} == BROKEN[kind], report.failed
    assert all(result.advice for result in report.failed)


SMILES = ["CCO", "CCN", "CC(=O)O", "c1ccccc1", "CCCC", "CC(C)O", "CCOC", "CNC(C)=O", "CCS", "OCCO", "CCCl", "CC#N"]


@pytest.fixture(scope="module")
def molecules(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("molecules")
    lines = [f"{text},{i}" for i, text in enumerate(SMILES)]
    (folder / "some.csv").write_text("smiles,y\n" + "\n".join(lines) + "\n")
    words = ["dataset=csv", f"dataset.path={folder / 'some.csv'}", "dataset.split=random", "model=grover_small"]
    return compose_specs(words)[0].config, folder


def test_an_atoms_number_may_not_be_read(molecules):
    subject = model_subject.of_config(molecules[0], "grover_small", molecules[1])
    width = subject.task.inputs["atom_features"]

    class ReadsNumbers(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(width, 1)

        def forward(self, batch):
            weight = 1 + batch.position[:, None]
            rows = self.linear(batch.x.float()) * weight
            return torch.zeros(len(batch), 1).index_add(0, batch.batch, rows)

    wrong = model_subject.ModelSubject("ReadsNumbers", ReadsNumbers, subject.task, subject.renumbered)
    assert models.renumbering(wrong).verdict is Verdict.FAILED
    assert models.renumbering(subject).verdict is Verdict.PASSED


def test_grover_from_a_configuration(molecules):
    report = models.check(model_subject.of_config(molecules[0], "grover_small", molecules[1]))
    assert report.passed, report.failed
    assert report.measured["parameters"] > 0
    assert report.measured["kept_for_backward_bytes"] > 0


def test_a_task_that_is_too_small_is_refused(task):
    few = SimpleNamespace(splits={"train": torch.arange(3)})
    with pytest.raises(ValueError, match="8 samples"):
        model_subject.ModelSubject("few", Sound, few)
