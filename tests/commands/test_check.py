"""`sam-bench check`: what is asked for, exit status, text and JSON."""

import json

import pytest
import yaml

from sam_bench.cli import main
from sam_bench.contract import VERSION

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


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with two optimizers of somebody's own, and a YAML of each."""
    (tmp_path / "mine_to_check.py").write_text(MINE)
    (tmp_path / "configs" / "optimizer").mkdir(parents=True)
    for name, kind in (("half_sam", "HalfSAM"), ("cheap", "Cheap")):
        settings = {"_target_": f"mine_to_check.{kind}", "rho": 0.05}
        (tmp_path / "configs" / "optimizer" / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert failed["seen"] == "2.000 passes a step where it claims 1.000"
    assert "claims.passes" in failed["advice"]


@pytest.mark.parametrize(("words", "wanted"), [
    ([], "say first what to check"),
    (["sam"], "say first what to check"),
    (["optimizer=smam"], "Did you mean 'sam"),
    (["optimizer=sam", "optimizer.roh=1"], "Did you mean 'optimizer.rho'"),
    (["model=grovr"], "Did you mean 'grover'"),
    (["dataset=bbpb"], "Did you mean 'bbbp'"),
    (["launcher=slrm"], "Did you mean 'slurm'"),
    (["--target", "no_such.Thing"], "cannot be imported"),
    (["--target", "torch.optim.Adam", "lr"], "write key=value"),
    (["--target", "torch.optim.Adam", "roh=1"], "unexpected keyword argument 'roh'"),
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
