"""Every example prints what its header says, by the command of its header; frameworks resume what they saved."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = re.compile(r"\d+\.\d+")
NEEDS = {"huggingface_trainer": "transformers"}  # what the extra [dev] does not bring


def header(path: Path) -> tuple[list[str], str]:
    """The command of an example, without its remarks, and the output that it promises."""
    what, command, expected = path.read_text().split('"""')[1].strip().splitlines()
    assert what.endswith(".")
    words = shlex.split(command.removeprefix("Command: ").partition("   (")[0])
    assert words[-1] == f"examples/{path.name}"
    return words, expected.removeprefix("Expected output: ")


def started(command: list[str], path: Path) -> str:
    """What `command` prints when it is started from this environment."""
    program = Path(sys.executable).with_name(command[0])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([program, *command[1:-1], path], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def environment():
    """Lightning leaves its seed in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def only_packages(monkeypatch):
    """Without tests/ on the path: transformers takes the folder tests/datasets for the package `datasets`."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry) != ROOT / "tests"])


@pytest.mark.slow
@pytest.mark.usefixtures("environment", "only_packages")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_prints_what_its_header_says(path, tmp_path, monkeypatch, capsys):
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    command, expected = header(path)
    monkeypatch.chdir(tmp_path)
    if command[0] == "python":  # in this process, which has torch already
        runpy.run_path(str(path), run_name="__main__")
        printed = capsys.readouterr().out
    else:
        printed = started(command, path)
    printed = printed.strip().splitlines()[-1]
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
    # Another processor rounds otherwise, and some hundred steps make that visible.
    for ours, theirs in zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=0.05)
    assert list(tmp_path.iterdir()) == [], "an example leaves no files"


def batches() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 64, generator=generator), torch.randint(0, 10, (60,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=20)


def same_parameters(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.usefixtures("environment")
def test_lightning_resumes_from_its_checkpoint(tmp_path):
    """LookSAM's third step reuses what the second epoch's checkpoint must hold."""
    import lightning

    names = runpy.run_path(str(ROOT / "examples" / "lightning_automatic.py"))

    def fit(epochs: int, seed: int, path: Path | None = None):
        torch.manual_seed(seed)
        model = names["Classifier"]()
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=tmp_path, **quiet)
        trainer.fit(model, batches(), ckpt_path=path)
        return model, trainer

    whole, _ = fit(4, seed=0)
    _, half = fit(2, seed=0)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed, trainer = fit(4, seed=1, path=tmp_path / "half.ckpt")
    assert trainer.optimizers[0].memory["step"] == 12
    assert same_parameters(resumed, whole)


@pytest.mark.usefixtures("only_packages")
def test_the_trainer_recipe_is_the_trainer(tmp_path, monkeypatch):
    """With ERM in the place of GSAM: micro-batches, their weights and clipping are the Trainer's own."""
    transformers = pytest.importorskip("transformers")
    from sam_bench.optim import ERM

    names = runpy.run_path(str(ROOT / "examples" / "huggingface_trainer.py"))
    monkeypatch.setitem(names["SharpnessAwareTrainer"].create_optimizer.__globals__, "GSAM", ERM)
    data = [{"x": x, "labels": y} for batch in batches() for x, y in zip(*batch, strict=True)]

    def fit(kind):
        torch.manual_seed(0)
        options = transformers.TrainingArguments(
            str(tmp_path), num_train_epochs=2, per_device_train_batch_size=8, gradient_accumulation_steps=3,
            max_grad_norm=0.5, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = kind(names["Classifier"](), options, train_dataset=data)
        trainer.train()
        return trainer

    plain, ours = fit(transformers.Trainer), fit(names["SharpnessAwareTrainer"])
    assert ours.optimizer.optimizer.memory["step"] == plain.state.global_step == 6
    for name, value in plain.model.state_dict().items():
        # The bias before BatchNorm has no gradient but rounding, which Adam makes large.
        tolerance = 1e-2 if name in ("net.0.bias", "net.1.running_mean") else 1e-5
        torch.testing.assert_close(ours.model.state_dict()[name], value, rtol=0, atol=tolerance)


def test_accelerate_resumes_from_its_checkpoint(tmp_path):
    from accelerate import Accelerator

    from sam_bench.optim import LookSAM

    def make(seed: int):
        torch.manual_seed(seed)
        accelerator = Accelerator(cpu=True)
        model = accelerator.prepare(nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)))
        optimizer = LookSAM(torch.optim.Adam(model.parameters()), model, k=3)
        accelerator.register_for_checkpointing(optimizer)
        return accelerator, model, optimizer

    def train(accelerator, model, optimizer):
        for x, y in batches():

            def closure(x=x, y=y):
                loss = nn.functional.cross_entropy(model(x), y)
                accelerator.backward(loss)
                return loss

            optimizer.step(closure)

    first, second = make(0), make(1)
    train(*first)
    first[0].save_state(tmp_path)
    train(*first)
    second[0].load_state(tmp_path)
    assert second[2].memory["step"] == 3
    train(*second)
    assert same_parameters(first[1], second[1])
