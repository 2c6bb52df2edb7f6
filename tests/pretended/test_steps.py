"""What a training step asks of a GPU: few launches, one wait, no tensor of the CPU among those of the GPU."""

from collections import Counter

import pytest
import torch
from support import pretended
from support.methods import METHODS

from sam_bench.config.compose import compose_specs
from sam_bench.training.life import build_trainer
from sam_bench.training.precision import Arithmetic

SMILES = ["CCO", "c1ccccc1C(=O)O", "CC(C)(C)C", "C1CC1", "CC(=O)Oc1ccccc1C(=O)O", "CCN(CC)CC", "C", "[Na+].[Cl-]"]
DIGITS = ("dataset=digits", "train.batch_size=16")
# Model -> what makes it, and the launches of a step of ERM and of SAM that it may take: a tenth above those counted.
MODELS = {
    "grover": (("model.hidden=16", "model.head_hidden=8"), 305, 620),
    "grover_small": (("model.hidden=8", "model.head_hidden=8"), 305, 620),
    "gine": (("model.hidden=8",), 205, 415),
    "compt": (("model.hidden=8", "model.layers=1", "model.readout=mean"), 370, 730),
    "attentive_fp": (("model.hidden=8",), 510, 1020),
    "resnet18": (("model.width=2",), 230, 445),
    "vit_ti": (("model.width=12", "model.depth=4"), 200, 385),
    "fastnet_tiny": (("model.widths=[4,8,8]",), 105, 200),
}
MOLECULES = {"grover", "grover_small", "gine", "compt", "attentive_fp"}
# Waits of a step beyond the one for finite gradients.
#   attentive_fp: torch_geometric's pooling asks in each pass how many molecules there are.
MORE_WAITS_OF_MODEL = {"attentive_fp": {"erm": 1, "sam": 2}}
#   ae_sam, ae_looksam: whether this step takes the second gradient is decided on the length of the first.
#   esam: how many samples it chooses by their losses decides the size of its second batch.
#   ausam: torch.multinomial looks twice whether its weights can be drawn from.
#   vsam: at the end of a window, how many of the next one's steps are SAM, by two averages.
MORE_WAITS_OF_METHOD = {"ae_sam": 1, "ae_looksam": 1, "esam": 1, "ausam": 2, "vsam": 2}


@pytest.fixture(scope="module")
def molecules(tmp_path_factory):
    path = tmp_path_factory.mktemp("pretended") / "molecules.csv"
    rows = [f"{smiles},{i % 2}" for i, smiles in enumerate(SMILES * 8)]
    path.write_text("\n".join(["smiles,label", *rows]) + "\n")
    return (f"dataset=csv dataset.path={path} dataset.smiles=smiles dataset.targets=[label] dataset.kind=binary "
            "dataset.metric=roc_auc train.batch_size=16").split()  # fmt: skip


def train(words, device, steps):
    """A trainer after `steps` steps on `device`."""
    (cell,) = compose_specs([*words, "dataset.split=random"])
    trainer = build_trainer(cell, device, Arithmetic("fp32", False))
    trainer.model.train()
    go_on(trainer, steps)
    return trainer


def go_on(trainer, steps):
    size = trainer.options.batch_size
    for _ in range(steps):
        first = trainer.batch * size
        trainer._step(trainer._order()[first : first + size])
        if trainer.batch == trainer.steps_per_epoch:
            trainer.epoch, trainer.batch = trainer.epoch + 1, 0


def waits(counts) -> Counter:
    """Waits by line, without those of the clock, which come once in a run or epoch."""
    return Counter({where: n for where, n in counts.waits.items() if not where.startswith("training/clock")})


@pytest.mark.parametrize("optimizer", ["erm", "sam"])
@pytest.mark.parametrize("model", MODELS)
def test_launches_and_waits_of_a_step(model, optimizer, molecules, monkeypatch):
    options, *most = MODELS[model]
    words = [*(molecules if model in MOLECULES else DIGITS), f"model={model}", *options, f"optimizer={optimizer}"]
    with pretended.gpu(monkeypatch) as counts:
        trainer = train(words, pretended.GPU, 2)
        counts.clear()
        go_on(trainer, 2)
    allowed = 1 + MORE_WAITS_OF_MODEL.get(model, {}).get(optimizer, 0)
    assert waits(counts).total() == 2 * allowed, waits(counts)
    assert counts.copies.total() <= 2 * 3, counts.copies
    assert counts.launches.total() / 2 <= most[optimizer == "sam"], counts.launches.most_common(20)


@pytest.mark.parametrize("method", METHODS)
def test_waits_of_every_method(method, monkeypatch):
    words = [
        *DIGITS,
        "model=fastnet_tiny",
        "model.widths=[2,4]",
        f"optimizer={method}",
        "train.batch_size=400",
    ]  # four steps in an epoch
    words += ["base=amsgrad"] if method == "adasam" else []
    words += ["optimizer.K=4", "optimizer.M=2"] if method == "vsam" else []
    most, found = 0, Counter()
    with pretended.gpu(monkeypatch) as counts:
        trainer = train(words, pretended.GPU, 1)
        for _ in range(20 if method == "vsam" else 6):
            counts.clear()
            go_on(trainer, 1)
            if waits(counts).total() > most:
                most, found = waits(counts).total(), waits(counts)
    assert most == 1 + MORE_WAITS_OF_METHOD.get(method, 0), found


@pytest.mark.parametrize("optimizer", ["erm", "sam", "gsam", "looksam", "graphsam"])
def test_without_the_test_of_finiteness_no_step_waits(optimizer, molecules, monkeypatch):
    with pretended.gpu(monkeypatch) as counts:
        trainer = train([*molecules, "model=grover_small", "model.hidden=8", f"optimizer={optimizer}",
                         "+optimizer.check_finite=false"], pretended.GPU, 2)  # fmt: skip
        counts.clear()
        go_on(trainer, 2)
    assert not waits(counts)


def test_fp16_reads_its_scale_with_the_verdict(monkeypatch):
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    (cell,) = compose_specs([*DIGITS, "model=fastnet_tiny", "model.widths=[2,4]", "optimizer=sam"])
    with pretended.gpu(monkeypatch) as counts:
        trainer = build_trainer(cell, pretended.GPU, Arithmetic("fp32", False))
        trainer.scaler = trainer.optimizer.scaler = torch.amp.GradScaler("cuda")
        go_on(trainer, 2)
        counts.clear()
        go_on(trainer, 2)
    assert trainer.scaler.is_enabled()
    assert waits(counts).total() == 2, waits(counts)
