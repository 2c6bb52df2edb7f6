"""Plans: each cell's configuration is what Hydra composes for it, however many there are."""

import hydra
import pytest
from omegaconf import OmegaConf

from sam_bench.config import files
from sam_bench.config.compose import compose_specs, plan


def by_hydra(cell):
    with hydra.initialize_config_dir(str(files.config_dir()), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("config", list(cell.overrides)), resolve=True)


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


def test_values_that_refer_to_others_follow_them():
    cells = plan("learning", ["dataset=esol", "seed=0,5", "optimizer=erm"])
    assert [(cell.config["seed"], cell.config["split_seed"]) for cell in cells] == [(0, 0), (5, 5)]
    assert len({cell.run_id for cell in cells}) == 2
