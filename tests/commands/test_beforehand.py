"""What can be checked is checked once, before the first run, without torch; by `sweep --dry-run` too."""

import os
import subprocess
import sys

import pytest

from sam_bench.cli import main

TABLE = "SMILES;y [uM];active\nC;1;0\nCC;2;1\nCCC;3;1\n"
OWN = ["dataset=csv", "dataset.path=my.csv", "model=gine"]
MISTAKES = {
    "a metric": (["dataset=esol", "dataset.metric=roc_auk"], "There is no metric 'roc_auk'. Did you mean 'roc_auc'"),
    "a metric of classes": (["dataset=esol", "dataset.metric=roc_auc"], "roc_auc is no metric of regression targets"),
    "a metric of images": (["dataset=digits", "model=fastnet_tiny", "dataset.metric=rmse"], "of multiclass targets"),
    "a file that is not named": (["dataset=csv"], "dataset=csv needs a file: dataset.path=my.csv"),
    "no such file": (["dataset=csv", "dataset.path=your.csv"], "There is no file"),
    "a column": ([*OWN, "dataset.targets=z"], "has no column 'z'. Known: SMILES, active, y [uM]"),
    "the column of the SMILES": ([*OWN, "dataset.smiles=smile"], "has no column 'smile'. Did you mean 'SMILES'"),
    "a column twice": ([*OWN, "dataset.targets=[active,active]"], "names a column twice"),
    "classes": ([*OWN, "dataset.targets='y [uM]'", "dataset.kind=binary"], "2 in column 'y [uM]' is neither 0 nor 1"),
    "quotes": ([*OWN, "dataset.targets=[y [uM]]"], "\"dataset.targets=['...','...']\""),
    "a split": ([*OWN, "dataset.split=scafold"], "Did you mean 'scaffold'"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch, results_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text(TABLE)
    mine = tmp_path / "configs" / "experiment"
    mine.mkdir(parents=True)
    (mine / "mine.yaml").write_text("# @package _global_\nhydra: {sweeper: {params: {optimizer: 'erm,sam'}}}\n")
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(mine.parent))
    return tmp_path


@pytest.mark.parametrize("name", MISTAKES)
def test_refused_before_the_first_cell(folder, name, capsys, results_dir):
    words, wanted = MISTAKES[name]
    for command in (["sweep", "mine", "--dry-run"], ["sweep", "mine"], ["run"]):
        assert main([*command, *words]) == 2
        assert wanted in capsys.readouterr().err
    assert not results_dir.exists()


def test_none_of_it_needs_torch(folder):
    program = (
        "import sys; from sam_bench.cli import main\n"
        "for line in sys.stdin.read().splitlines(): assert main(['run', *line.split()]) == 2, line\n"
        "print('heavy:', *{'torch', 'rdkit', 'pandas'} & set(sys.modules))"
    )
    lines = [" ".join(words) for words, _ in MISTAKES.values() if not any(" " in word for word in words)]
    done = subprocess.run([sys.executable, "-c", program], input="\n".join(lines), text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "heavy:\n"), done.stderr


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_other_separators_are_read_and_names_with_brackets_can_be_quoted(folder, separator, capsys):
    (folder / "my.csv").write_text(TABLE.replace(";", separator))
    for targets in ("dataset.targets='y [uM]'", "dataset.targets=['y [uM]']", "dataset.targets=['y [uM]',active]"):
        assert main(["sweep", "mine", "--dry-run", *OWN, targets]) == 0
        assert "2 of 2 cells to run" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0 and not os.path.isdir("/proc"), reason="needs a folder that takes none")
def test_a_dry_run_says_that_no_record_can_be_written(folder, capsys, monkeypatch):
    monkeypatch.setenv("SAM_BENCH_RESULTS", "/proc/nowhere/results")
    assert main(["sweep", "mine", "--dry-run"]) == 2
    assert "Point SAM_BENCH_RESULTS to a folder that you may write" in capsys.readouterr().err
