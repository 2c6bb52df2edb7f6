"""`sam-bench check`: what is asked for, exit status, text and JSON."""

import json
import sys

import pytest
import yaml

from sam_bench.cli import main
from sam_bench.config import build
from sam_bench.contract import VERSION, Report, optimizers

MINE = '''
from sam_bench.optim import SAM
from sam_bench.optim.claims import Claims


class HalfSAM(SAM):
    """Mean of g and g_s."""

    def direction(self, oracle):
        g = oracle()
        return (g + oracle(self.ascent(g))) / 2


class Cheap(SAM):
    claims = Claims(passes=lambda optimizer, steps, n: steps)
'''


TABLE = """
import hashlib

import torch

from sam_bench.datasets.images.arrays import Images
from sam_bench.datasets.images.augment import Augment
from sam_bench.datasets.task import Task


def load(*, data_dir, split_seed, **options):
    pixels = torch.arange(48 * 16, dtype=torch.uint8).reshape(48, 1, 4, 4).numpy()
    order = torch.randperm(48, generator=torch.Generator().manual_seed(split_seed))
    return Task(
        name="squares", modality="square", kind="multiclass", num_outputs=2, metric="accuracy", inputs={"size": 4},
        source=Images.pack(pixels, [0.5], [0.3], Augment()), targets=torch.arange(48) % 2,
        splits=dict(zip(("train", "valid", "test"), order.split([16, 16, 16]), strict=True)),
        data_sha256=hashlib.sha256(pixels).hexdigest(), verified=True,
    )
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The current folder, with two optimizers, a data set and a model of somebody's own, and a YAML of each."""
    (tmp_path / "mine_to_check.py").write_text(MINE)
    (tmp_path / "configs" / "optimizer").mkdir(parents=True)
    for name, kind in (("half_sam", "HalfSAM"), ("cheap", "Cheap")):
        settings = {"_target_": f"mine_to_check.{kind}", "rho": 0.05}
        (tmp_path / "configs" / "optimizer" / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "squares_to_check.py").write_text(TABLE)
    for group, settings in {
        "dataset": {"_target_": "squares_to_check.load", "modality": "square", "name": "squares"},
        "model": {"_target_": "squares_to_check.Net", "accepts": ["square"]},
    }.items():
        (tmp_path / "configs" / group).mkdir()
        (tmp_path / "configs" / group / "squares.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command itself finds what is here
    monkeypatch.setattr(build, "_own_code", [])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("mine_to_check", "squares_to_check"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("mine")
def test_a_data_set_that_no_model_reads_and_a_model_of_other_samples(capsys):
    assert main(["check", "dataset=squares"]) == 0
    assert "train 16, valid 16, test 16" in capsys.readouterr().out
    assert main(["check", "model=squares"]) == 2
    assert "squares reads square: say which data to check it on, dataset=NAME. Data sets that fit: squares." in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("settings", "said"), [
    ({"rho": 0.05}, "the YAML of the optimizer names no class: it needs a line such as `_target_: my_module.MyClass`"),
    ({"_target_": "no_such_module.X"}, "no_such_module.X cannot be imported: ModuleNotFoundError"),
    ({"_target_": "mine_to_check.HalfSAm"}, "mine_to_check.HalfSAm cannot be imported: AttributeError"),
    ({"_target_": "broken_to_check.X"}, "broken_to_check.X cannot be imported: SyntaxError"),
    ({"_target_": "mine_to_check.HalfSAM", "roh": 0.1}, "wrong has no option 'roh'. Did you mean 'rho'?"),
    ({"_target_": "mine_to_check.Closed"}, "wrong does not take total_steps=, which every run gives it: let its"),
])  # fmt: skip
def test_a_mistake_around_the_class_is_a_wrong_request(mine, capsys, settings, said):
    (mine / "broken_to_check.py").write_text("def\n")
    with (mine / "mine_to_check.py").open("a") as file:
        file.write("\n\nclass Closed(SAM):\n    def __init__(self, base, model, rho=0.05):\n        pass\n")
    (mine / "configs" / "optimizer" / "wrong.yaml").write_text(yaml.safe_dump(settings))
    assert main(["check", "optimizer=wrong"]) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_cannot_be_built_is_a_wrong_request(mine, capsys):
    assert main(["check", "model=squares", "dataset=squares"]) == 2  # the module has no class Net
    said = capsys.readouterr().err
    assert "cannot be" in said or "cannot build the model" in said
    assert "squares_to_check.Net" in said


def test_what_is_missing_is_named(capsys):
    words = ["run", "dataset=digits", "model=fastnet_tiny", "optimizer=erm"]
    assert main([*words[:-1], "~optimizer"]) == 2
    assert "optimizer is missing: choose one, optimizer=NAME" in capsys.readouterr().err
    assert main([*words, "~train.epochs"]) == 2
    assert "train.epochs is missing: give it a value." in capsys.readouterr().err


def test_an_error_is_shown_with_its_line_and_before_any_cost_is_measured(mine, capsys):
    with (mine / "mine_to_check.py").open("a") as file:
        file.write("\n\nclass Silent(SAM):\n    def direction(self, oracle):\n        oracle()\n")
        file.write("\n\nclass Typo(SAM):\n    def direction(self, oracle):\n        return orakel()\n")
    assert main(["check", "--target", "mine_to_check.Silent"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "it raised TypeError: Silent.direction returned a NoneType: return a Vector, as oracle() does" in text
    assert "cost: not measured, because a point failed" in text
    assert main(["check", "--target", "mine_to_check.Typo", "--no-cost"]) == 1
    assert "name 'orakel' is not defined (mine_to_check.py, line " in " ".join(capsys.readouterr().out.split())


def test_an_optimizer_of_one_base_is_checked_by_itself(capsys, monkeypatch):
    """`run` refuses adasam beside Adam, which the default is; the contract has bases of its own."""
    monkeypatch.setattr(optimizers, "check", lambda subject: Report("optimizer", subject.name, ()))
    assert main(["check", "optimizer=adasam", "--no-cost"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"adasam passes sam_bench contract {VERSION}")


@pytest.mark.slow
def test_an_optimizer_of_ones_own(mine, capsys):
    assert main(["check", "optimizer=half_sam", "optimizer.rho=0.1"]) == 0
    text = capsys.readouterr().out
    assert text.rstrip().endswith(f"half_sam passes sam_bench contract {VERSION}")
    assert "overhead percent" in text
    assert "  9  passed" in text  # both ranks found the class
    assert "10  not applicable" in text


def test_json_and_a_point_that_fails(mine, capsys):
    assert main(["check", "--target", "mine_to_check.Cheap", "rho=0.1", "--json", "--no-cost"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["badge"] == f"Cheap fails sam_bench contract {VERSION}: 3"
    (failed,) = [point for point in report["points"] if point["verdict"] == "failed"]
    assert failed["seen"] == "2.000 passes per step, but it claims 1.000"
    assert "claims.passes" in failed["advice"]


def test_json_into_a_file_and_before_the_words(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(optimizers, "check", lambda subject: Report("optimizer", subject.name, ()))
    file = tmp_path / "report.json"
    assert main(["check", "--json", str(file), "optimizer=sam", "--no-cost"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(json.loads(file.read_text())["badge"])
    assert main(["check", "--json", "optimizer=sam", "--no-cost"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "sam"
    assert main(["check", "optimizer=sam", "--no-cost", "--json", str(tmp_path / "no" / "report.json")]) == 2
    assert "cannot be written: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "wanted"), [
    ([], "say first what to check"),
    (["sam"], "say first what to check"),
    (["optimizer=smam"], "Did you mean 'sam"),
    (["optimizer=sam", "optimizer.roh=1"], "Did you mean 'optimizer.rho'"),
    (["model=grovr"], "Did you mean 'grover'"),
    (["dataset=bbpb"], "Did you mean 'bbbp'"),
    (["launcher=slrm"], "Did you mean 'slurm'"),
    (["optimizer=sam,gsam"], "one optimizer at a time"),
    (["optimizer=sam", "optimizer.rho=0.1,0.2"], "give one value here"),
    (["model=grover_small", "dataset=bbbp,esol"], "these are 2 configurations"),
    (["launcher=local", "launcher.jobs=2"], "launcher=local has no options"),
    (["--target", "no_such.Thing"], "cannot be imported"),
    (["--target", "torch.optim.Adam", "lr"], "write key=value"),
    (["--target", "torch.optim.Adam", "roh=1"], "Adam has no option 'roh'. Known: amsgrad"),
])  # fmt: skip
def test_wrong_requests(words, wanted, capsys, results_dir):
    assert main(["check", *words]) == 2
    assert wanted in capsys.readouterr().err


def test_a_model_and_a_data_set(capsys):
    assert main(["check", "model=fastnet_tiny"]) == 0
    assert f"fastnet_tiny passes sam_bench contract {VERSION}" in capsys.readouterr().out
    assert main(["check", "dataset=digits"]) == 0
    assert "train 1437, valid 180, test 180" in capsys.readouterr().out


def test_the_local_launcher(capsys, results_dir):
    assert main(["check", "launcher=local"]) == 0
    assert "3  passed" in capsys.readouterr().out
    assert not list(results_dir.iterdir())
