"""The training loop on a real GPU. tests/pretended counts the same on a machine without one."""

import pytest
import torch

from sam_bench.config.compose import compose_specs
from sam_bench.training.life import build_trainer
from sam_bench.training.precision import Arithmetic

WORDS = {
    "images": ("dataset=digits", "model=fastnet_tiny"),
    "grover": ("dataset=chembl2321810", "model=grover_small"),
    "gine": ("dataset=chembl2321810", "model=gine"),
    "compt": ("dataset=chembl2321810", "model=compt", "model.hidden=32", "model.layers=1"),
}


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["erm", "sam", "graphsam", "vsam"])
@pytest.mark.parametrize("what", WORDS)
def test_a_step_waits_for_its_verdict_and_for_nothing_else(what, optimizer):
    (cell,) = compose_specs([*WORDS[what], f"optimizer={optimizer}"])
    trainer = build_trainer(cell, torch.device("cuda", 0), Arithmetic("fp32", compiled=False))
    trainer.model.train()
    parts = trainer._order().split(trainer.options.batch_size)
    for part in parts[:4]:
        trainer._step(part)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):  # so the mode sees a wait
            trainer._step(parts[4])
        trainer.optimizer.check_finite = False
        for part in parts[5:9]:
            trainer._step(part)
    finally:
        torch.cuda.set_sync_debug_mode("default")
