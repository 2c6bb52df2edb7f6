"""Code outside the package: its checksum is in the record, and a change after the run does not go unnoticed."""

import sys

import pytest

from sam_bench.cli import main
from sam_bench.config.build import build_model, build_task
from sam_bench.config.compose import compose_specs
from sam_bench.results.arms import blocks
from sam_bench.results.fairness import mixed_code
from sam_bench.store import index, places
from sam_bench.training.compiled import advice

CODE = """
from sam_bench.optim import SAM


class Edited(SAM):
    def ascent(self, g):
        return self.to_radius(g) * {factor}
"""
MODEL = """
import torch


class Wrong(torch.nn.Module):
    def __init__(self, num_outputs, inputs):
        super().__init__()
        self.width = inputs["no such key"]
"""
WORDS = ("dataset=digits", "model=fastnet_tiny", "optimizer=edited", "train.max_steps=2", "device=cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch, results_dir):
    """A current folder with a method and a model of one's own."""
    for group, name, text in (("optimizer", "edited", "_target_: edited_sam.Edited\nrho: 0.05\n"),
                              ("model", "wrong", "_target_: wrong_model.Wrong\naccepts: [image]\n")):  # fmt: skip
        (tmp_path / "configs" / group).mkdir(parents=True)
        (tmp_path / "configs" / group / f"{name}.yaml").write_text(text)
    (tmp_path / "edited_sam.py").write_text(CODE.format(factor=1.0))
    (tmp_path / "wrong_model.py").write_text(MODEL)
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(results_dir))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("edited_sam", "wrong_model"):
        sys.modules.pop(name, None)


def test_a_run_made_with_another_version_of_ones_code_is_told_apart(folder, capsys):
    assert main(["run", *WORDS, "seed=0"]) == 0
    assert main(["run", *WORDS, "seed=0"]) == 0
    said = capsys.readouterr()
    assert "already finished" in said.out
    assert "another version" not in said.err
    (folder / "edited_sam.py").write_text(CODE.format(factor=-5.0))
    assert main(["run", *WORDS, "seed=0"]) == 0
    assert (
        "1 finished run was made with another version of edited_sam: give the changed part" in capsys.readouterr().err
    )
    assert main(["run", *WORDS, "seed=1"]) == 0
    capsys.readouterr()
    assert main(["verify", *WORDS, "seed=0,1"]) == 0
    assert "runs were made with 2 versions of edited_sam" in capsys.readouterr().out
    runs = [path.name for path in (places.results_dir() / "runs").iterdir()]
    (block,) = blocks(index.load(places.results_dir(), runs))
    (arm,) = block.arms
    assert mixed_code(arm)
    assert [list(run["provenance"]["own_code"]) for run in arm.runs] == [["edited_sam"]] * 2


def test_code_of_the_package_and_of_libraries_is_not_ones_own(results_dir, monkeypatch):
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(results_dir))
    assert (
        main(["run", "dataset=digits", "model=fastnet_tiny", "optimizer=sam", "train.max_steps=2", "device=cpu"]) == 0
    )
    (name,) = [path.name for path in (results_dir / "runs").iterdir()]
    (record,) = index.load(results_dir, [name])
    assert "own_code" not in record["provenance"]


@pytest.mark.timeout(60)
def test_an_error_of_ones_own_constructor_ends_the_run(folder):
    """The causes of an error that is raised again can be a ring, in which the search for advice must not go round."""
    from sam_bench.config.build import trust_current_folder

    trust_current_folder()
    (cell,) = compose_specs(["dataset=digits", "model=wrong", "optimizer=erm"])
    task = build_task(cell.config, places.data_dir())
    with pytest.raises(KeyError, match="no such key") as told:
        build_model(cell.config, task)
    assert advice(told.value) is None
    ring = KeyError("a")
    ring.__cause__ = ValueError("b")
    ring.__cause__.__context__ = ring
    assert advice(ring) is None
