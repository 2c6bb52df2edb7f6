"""The user's own YAML files: found by every command, in one order, and never mixed up with the built-in ones."""

import subprocess
import sys

import pytest
import torch

from sam_bench import cli
from sam_bench.config import files
from sam_bench.config.compose import compose_specs, plan
from sam_bench.errors import UsageError
from sam_bench.optim import SAM, create_optimizer

ODD = """my configs, "quoted" it's a=b"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes YAML files into a folder of SAM_BENCH_CONFIGS whose name has all that Hydra's lists break on."""
    folder = tmp_path / ODD
    folder.mkdir()
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(folder))
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str):
        path = folder / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def my_sam(mine):
    return mine("optimizer/my_sam", "defaults: [sam]\nrho: 0.3\n")


@pytest.mark.usefixtures("my_sam", "results_dir")
@pytest.mark.parametrize(
    "words",
    [
        ["optimizer=my_sam", "--cfg", "job", "-p", "optimizer"],
        ["--cfg", "job", "-p", "optimizer", "optimizer=my_sam"],
        ["optimizer=my_sam", "-p", "optimizer", "seed=1", "-c", "job"],
    ],
    ids=" ".join,
)
def test_hydra_shows_a_component_of_mine(words, capsys):
    assert cli.main(["run", *words]) == 0
    assert "rho: 0.3" in capsys.readouterr().out


@pytest.mark.usefixtures("my_sam")
def test_a_multirun_of_mine_with_the_flag_at_the_end(results_dir):
    small = ["dataset=digits", "model=fastnet_tiny", "train.max_steps=1", "optimizer=my_sam"]
    assert cli.main(["run", *small, "seed=0,1", "-m"]) == 0
    assert len(list((results_dir / "runs").iterdir())) == 2


@pytest.mark.usefixtures("my_sam")
def test_a_typo_beside_my_component_is_named():
    with pytest.raises(UsageError, match=r"unknown key 'train\.epoch'.*'train\.epochs'"):
        compose_specs(["optimizer=my_sam", "train.epoch=3"])


@pytest.mark.usefixtures("my_sam")
def test_mine_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert " my_sam " in capsys.readouterr().out


@pytest.mark.usefixtures("my_sam")
def test_mine_is_found_without_hydra():
    model = torch.nn.Linear(3, 1)
    optimizer = create_optimizer("my_sam", "sgd", model)
    assert isinstance(optimizer, SAM)
    assert optimizer.param_groups[0]["rho"] == 0.3


def test_speed_measures_a_model_of_mine(mine):
    from argparse import Namespace

    from sam_bench.speed.workload import build_workload

    mine("model/my_net", "defaults: [fastnet_tiny]\nwidths: [4, 4, 4]\n")
    others = {"dataset": "digits", "base": "sgd", "overrides": [], "batch_size": 2}
    small, whole = (
        build_workload(Namespace(model=name, **others), torch.device("cpu")) for name in ("my_net", "fastnet_tiny")
    )
    assert small.parameters < whole.parameters


def test_a_model_of_mine_is_among_those_that_fit(mine):
    mine("model/my_net", "defaults: [fastnet_tiny]\n")
    with pytest.raises(UsageError, match=r"Models that fit: .*my_net"):
        compose_specs(["dataset=digits", "model=grover"])


def test_the_name_of_a_built_in_is_refused_everywhere(mine, capsys):
    path = mine("optimizer/sam", "_target_: sam_bench.optim.SAM\nrho: 0.7\n")
    advice = "Rename yours.*override the built-in's keys: optimizer=sam optimizer.rho=0.7"
    for ask in (
        lambda: compose_specs(["optimizer=sam"]),
        lambda: plan("quickstart"),
        lambda: files.read_component("optimizer", "erm"),
        lambda: create_optimizer("sam", "sgd", torch.nn.Linear(2, 1)),
    ):
        with pytest.raises(UsageError, match=advice):
            ask()
    path.unlink()
    mine("dataset/bbbp", "name: bbbp\n")
    assert cli.main(["data", "list"]) == 2
    assert "my_bbbp" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "nowhere"))
    for words in (["run", "seed=0"], ["sweep", "quickstart", "--dry-run"], ["data", "list"]):
        assert cli.main(words) == 2
        assert "nowhere, but there is no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--help"])
    assert leaving.value.code == 0


def test_the_first_of_two_folders_wins(mine, monkeypatch, tmp_path):
    first = mine("optimizer/my_sam", "defaults: [sam]\nrho: 0.1\n").parent.parent
    second = tmp_path / "second" / "optimizer"
    second.mkdir(parents=True)
    (second / "my_sam.yaml").write_text("defaults: [sam]\nrho: 0.2\n")
    for order, rho in (((first, second.parent), 0.1), ((second.parent, first), 0.2)):
        monkeypatch.setenv("SAM_BENCH_CONFIGS", ":".join(map(str, order)))
        assert compose_specs(["optimizer=my_sam"])[0].config["optimizer"]["rho"] == rho
        assert files.read_component("optimizer", "my_sam")["rho"] == rho


@pytest.mark.parametrize("group", ["optimizer", "model", "train", "dataset"])
def test_read_without_hydra_is_what_hydra_reads(group):
    base = {"model": ["dataset=digits", "model=fastnet_tiny"], "train": ["train=cifar_vit"]}.get(group, [])
    config = compose_specs(base)[0].config[group]
    name = {"optimizer": "sam", "model": "fastnet_tiny", "train": "cifar_vit", "dataset": "chembl2321810"}[group]
    read = files.read_component(group, name)
    assert {k: v for k, v in read.items() if k != "features"} == {k: v for k, v in config.items() if k != "features"}


def test_nested_keys_and_broken_files(mine):
    mine("dataset/my_cifar", "defaults: [cifar10]\naugment: {cutout: 8}\n")
    augment = files.read_component("dataset", "my_cifar")["augment"]
    assert (augment["cutout"], augment["pad"]) == (8, 4)
    mine("dataset/torn", "a: [1\n")
    with pytest.raises(UsageError, match=r"torn\.yaml cannot be read as YAML"):
        files.read_component("dataset", "torn")
    mine("dataset/words", "just words\n")
    with pytest.raises(UsageError, match=r"words\.yaml holds no keys"):
        files.read_component("dataset", "words")
    mine("dataset/lost", "defaults: [nothing]\n")
    with pytest.raises(UsageError, match="its defaults name 'nothing'"):
        files.read_component("dataset", "lost")
    with pytest.raises(UsageError, match="'cifar10'"):
        files.read_component("dataset", "cifr10")


def test_a_data_set_of_mine_is_not_called_verified(mine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path))
    mine("dataset/my_set", "_target_: my_package.load\nname: my_set\nmodality: molecule\n")
    mine("dataset/no_modality", "_target_: my_package.load\nname: no_modality\n")
    assert cli.main(["data", "list", "my_set", "no_modality", "digits"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["my_set"][2:4] == ["own", "no"]
    assert lines["no_modality"][2:4] == ["wrong", "no"]
    assert lines["digits"][2:5] == ["embedded", "when", "read"]
    assert cli.main(["data", "verify", "digits", "my_set"]) == 0
    assert capsys.readouterr().out.startswith("digits: verified\nmy_set: own (nothing is known that could check")
    assert cli.main(["data", "verify", "no_modality"]) == 1
    assert "add `modality: molecule`" in capsys.readouterr().out
    with pytest.raises(UsageError, match="Add `modality: molecule`"):
        compose_specs(["dataset=no_modality"])


def test_other_digits_are_not_called_verified(monkeypatch, capsys):
    from sam_bench.datasets.images import digits

    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    assert cli.main(["data", "verify", "digits"]) == 0
    assert "digits: unproven (this scikit-learn holds other digits" in capsys.readouterr().out


def test_the_finder_needs_no_torch_and_no_hydra():
    code = "import sys, sam_bench.config.files; sys.exit(bool({'torch', 'hydra', 'omegaconf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
