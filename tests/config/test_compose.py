"""Plans: each cell's configuration is what Hydra composes for it, however many there are."""

import hashlib
import json

import hydra
import pytest
from omegaconf import OmegaConf

from sam_bench.config import files
from sam_bench.config.compose import compose_specs, plan
from sam_bench.errors import UsageError
from sam_bench.store import identity


def by_hydra(cell, folder=None):
    overrides = [*([f"hydra.searchpath=[file://{folder}]"] if folder else []), *cell.overrides]
    with hydra.initialize_config_dir(str(files.config_dir()), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("config", overrides), resolve=True)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=sam,erm", "seed=0,1", "train.epochs=2,3"],
        ["split_seed=7,${seed}", "seed=3,4", "optimizer=erm"],  # first a value where the experiment refers to the seed
        ["optimizer=sam", "seed=0", "dataset.fractions=[0.7,0.1,0.2],[0.8,0.1,0.1]", "dataset=bbbp"],
        ["optimizer=sam", "seed=1,2", "train.patience=null,3", "+train.max_steps=5"],
        ["optimizer=sam", "seed=1", "train={epochs: 8},{epochs: 16,batch_size: 4}", "dataset=bbbp", "base.lr=1e-4,0.5"],
    ],
    ids=" ".join,
)
def test_cells_are_what_hydra_composes_for_them(overrides):
    for cells in (plan("learning", overrides), compose_specs(["dataset=esol", "model=grover_small", *overrides])):
        for cell in (cells[0], cells[-1]):
            assert cell.config == by_hydra(cell), cell.overrides
            assert cell.labels["seed"] == cell.config["seed"]
        for cell in cells:  # they share sections, but each is named by its own configuration
            whole = json.dumps(identity.important(cell.config), sort_keys=True)
            assert cell.run_id.endswith(hashlib.sha256(whole.encode()).hexdigest()[:8])
            assert cell.run_id == identity.run_id(cell.labels, cell.config)


def test_every_cell_of_a_grid_is_checked_although_cells_share_sections():
    with pytest.raises(UsageError, match=r"train\.epochs=0 is not usable"):
        compose_specs(["dataset=esol", "model=grover_small", "seed=0,1", "train.epochs=2,3,0"])
    with pytest.raises(UsageError, match=r"train\.epochs=none"):
        plan("learning", ["train.epochs=4,none"])


def test_what_refers_to_others_is_as_hydra_resolves_it(tmp_path, monkeypatch):
    """A chain, a reference within a text, to a group of keys, and one that a value takes the place of."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "chain.yaml").write_text(
        "# @package _global_\nsplit_seed: ${train.eval_every}\n"
        "train: {eval_every: '${train.patience}', patience: '${seed}', epochs: '${train.batch_size}'}\n"
        "dataset: {name: 'seed ${seed}', features: '${model.features}'}\nmodel: {features: grover}\n"
    )
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path))
    axes = ["train.batch_size=2,3", "base.lr=0.1,0.2"]
    for overrides in (["seed=1,2", *axes], axes, ["seed=1,2", "train.patience=4,5"], ["model.features=ogb,grover"]):
        cells = plan("chain", overrides if "seed=1,2" in overrides else ["seed=3", *overrides])
        assert len(cells) == 2 ** sum("," in word for word in overrides)
        for cell in cells:
            assert cell.config == by_hydra(cell, tmp_path), cell.overrides


def test_values_that_refer_to_others_follow_them():
    cells = plan("learning", ["dataset=esol", "seed=0,5", "optimizer=erm"])
    assert [(cell.config["seed"], cell.config["split_seed"]) for cell in cells] == [(0, 0), (5, 5)]
    assert len({cell.run_id for cell in cells}) == 2


def test_a_key_of_some_arms_is_given_to_those_and_that_is_said():
    said = []
    cells = plan("quickstart", ["optimizer.k=3,7", "seed=0"], said.append)
    ks = {cell.labels["optimizer"]: [] for cell in cells}
    for cell in cells:
        ks[cell.labels["optimizer"]].append(cell.config["optimizer"].get("k"))
    assert ks.pop("looksam") == [3, 7]
    assert all(values == [plan("quickstart", [f"optimizer={name}", "seed=0"])[0].config["optimizer"].get("k")]
               for name, values in ks.items())  # one cell each, as without the override  # fmt: skip
    assert said[0].startswith("optimizer.k is set for looksam")
    assert " not for erm, sam, " in said[0]


def test_the_cells_of_the_base_arm_stay_what_they_are():
    plain = {cell.run_id for cell in plan("quickstart", ["optimizer=erm"])}
    assert {c.run_id for c in plan("quickstart", ["optimizer.rho=0.1"]) if c.labels["optimizer"] == "erm"} == plain
    for cell in plan("quickstart", ["optimizer.rho=0.1", "seed=0"]):
        assert compose_specs(cell.overrides)[0].run_id == cell.run_id  # what the record says makes it again


def test_a_key_that_no_arm_has_is_an_error():
    with pytest.raises(UsageError, match=r"unknown key 'optimizer\.rhoo'. Did you mean 'optimizer.rho'"):
        plan("quickstart", ["optimizer.rhoo=0.1"])
    with pytest.raises(UsageError, match=r"unknown key 'optimizer\.rho'"):
        plan("quickstart", ["optimizer=erm", "optimizer.rho=0.1"])
    with pytest.raises(UsageError, match=r"unknown key 'optimizer\.rho'"):
        compose_specs(["optimizer=erm,sam", "optimizer.rho=0.1"])  # of `run`, whose words Hydra reads


def test_choices_of_several_groups_need_no_composition_each(monkeypatch):
    made = []
    compose = hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: made.append(a) or compose(*a, **k))
    words = ["dataset=esol,bbbp,tox21", "optimizer=erm,sam,looksam", "seed=0,1", "base=adam,sgd"]
    cells = plan("learning", words)
    assert len(cells) == 36
    assert len(made) < 10  # of 18 choices
    for cell in cells[::7]:
        assert cell.config == by_hydra(cell)
        assert cell.run_id == compose_specs(cell.overrides)[0].run_id


def test_a_file_that_changes_other_sections_is_composed_by_hydra(tmp_path, monkeypatch):
    for name in ("experiment", "dataset"):
        (tmp_path / name).mkdir()
    (tmp_path / "dataset" / "long.yaml").write_text(
        "# @package _global_\nprecision: bf16\n"
        "dataset: {_target_: mine.load, name: long, modality: molecule, metric: rmse}\n"
    )
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path))
    cells = plan(None, ["dataset=esol,long", "optimizer=erm,sam"])
    assert [cell.config["precision"] for cell in cells] == ["fp32", "fp32", "bf16", "bf16"]
    for cell in cells:
        assert cell.config == by_hydra(cell, tmp_path)
