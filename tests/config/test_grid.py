"""An experiment of one's own: a mistake in its YAML is named, with the file."""

import re

import pytest

from sam_bench.cli import main
from sam_bench.config.compose import plan

GOOD = """# @package _global_
defaults: [{override /dataset: digits}, {override /model: fastnet_tiny}]
train: {epochs: 1}
hydra:
  sweeper:
    params:
      optimizer: erm,sam
      seed: 0,1
"""
MISTAKES = {
    "no header": ("# @package _global_", "#", "mine.yaml: the first line of an experiment must be `# @package _global"),
    "a comment above it": ("# @package", "# Mine.\n# @package", "mine.yaml: the first line .* also above comments"),
    "brackets": ("erm,sam", "[erm,sam]", r"mine.yaml, its grid .*commas, without brackets: `optimizer: erm,sam`"),
    "a method": ("erm,sam", "erm,smm", r"mine.yaml, its grid .*unknown optimizer 'smm'. Did you mean 'sam'"),
    "an axis": ("optimizer:", "optimizr:", r"mine.yaml, its grid .*unknown key 'optimizr'. Did you mean 'optimizer'"),
    "a key": ("seed:", "optimizer.rhoo:", r"mine.yaml, its grid .*Did you mean 'optimizer.rho'"),
    "quotes": ("erm,sam", "'erm,''sam'", r"mine.yaml, its grid .*cannot read the override"),
    "no axes": ("optimizer: erm,sam\n      seed: 0,1", "- optimizer", "write one line for each axis"),
    "a default": ("dataset: digits", "dataset: digts", "mine.yaml: its defaults name dataset 'digts'.*'digits'"),
    "no such group": ("/dataset: digits", "/datset: digits", "mine.yaml"),
    "torn": ("epochs: 1}", "epochs: 1", "mine.yaml, line 4: cannot be read as YAML"),
    "a key of train": ("epochs:", "epoch:", "unknown key 'train.epoch'. Did you mean 'train.epochs'"),
    "a type": ("epochs: 1", "epochs: many", "train.epochs=many is not usable: it must be an integer"),
    "a range": ("seed: 0,1", "optimizer.rho: 'interval(0,1)'", r"Write the values: optimizer.rho=a,b,c"),
}  # fmt: skip


@pytest.fixture
def mine(tmp_path, monkeypatch, results_dir):
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "configs"))
    path = tmp_path / "configs" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(mine, name, capsys, results_dir):
    old, new, wanted = MISTAKES[name]
    assert old in GOOD
    mine.write_text(GOOD.replace(old, new))
    for words in (["sweep", "mine", "--dry-run"], ["run", "experiment=mine"]):
        if (words[0] == "run" and "grid" in wanted + name) or name in ("a range", "no axes"):
            continue  # `run` makes one run and reads no grid
        assert main(words) == 2, name
        assert re.search(wanted, capsys.readouterr().err)
    assert not results_dir.exists()


def test_known_experiments_include_the_own_folder(mine, capsys):
    assert main(["sweep", "xyzzy"]) == 2
    assert " mine," in capsys.readouterr().err


def test_rho_can_be_swept_with_erm_as_the_paired_base_arm(mine):
    mine.write_text(GOOD.replace("seed: 0,1", "optimizer.rho: 0.05,0.1\n      seed: 0,1"))
    cells = plan("mine")
    assert [(c.labels["optimizer"], c.labels["seed"], c.config["optimizer"].get("rho")) for c in cells] == [
        *[("erm", seed, None) for seed in (0, 1)], *[("sam", seed, rho) for rho in (0.05, 0.1) for seed in (0, 1)]
    ]  # fmt: skip


def test_a_file_is_looked_for_beside_the_yaml_that_names_it(mine, tmp_path, monkeypatch):
    from sam_bench.config.compose import compose_specs

    (mine.parent / "near.csv").write_text("smiles,y\nC,1\nCC,2\n")
    sets = mine.parent.parent / "dataset"
    sets.mkdir()
    (sets / "more.csv").write_text("smiles,y\nC,1\nCC,3\n")
    (sets / "more.yaml").write_text("defaults: [csv]\npath: more.csv\n")
    head = "# @package _global_\ndefaults: [{override /dataset: csv}]\n"
    for text in ("dataset: {path: near.csv}\n", "hydra: {sweeper: {params: {dataset.path: near.csv}}}\n"):
        mine.write_text(head + text)
        for folder in (tmp_path, mine.parent):
            monkeypatch.chdir(folder)
            assert plan("mine")[0].config["dataset"]["path"] == str(mine.parent / "near.csv")
    (cell,) = compose_specs(["dataset=more"])
    assert cell.config["dataset"]["path"] == str(sets / "more.csv")
    monkeypatch.chdir(sets)
    assert compose_specs(["dataset=csv", "dataset.path=more.csv"])[0].config["dataset"]["path"] == str(
        sets / "more.csv"
    )
