"""The recorded trajectories of the authors' code, within the tolerance recorded with them."""

import pytest
from support import ROOT, golden

PAGE = ROOT / "docs" / "optimizers" / "golden.md"


@pytest.mark.parametrize("name", golden.CASES)
def test_trajectory(name):
    largest, optimizer = golden.deviation(name)
    assert largest <= golden.CASES[name].tolerance
    recorded = golden.load(name).info["n_forward"].sum() / golden.CASES[name].micro
    if name.startswith("esam"):
        assert optimizer.memory["grad_evals"] < recorded  # a forward pass and a part of the batch are no whole pass
    else:
        assert optimizer.memory["grad_evals"] == recorded


def test_every_recorded_run_is_compared():
    if not golden.FOLDER.is_dir():
        pytest.skip("the whole trajectories are not here")
    assert {path.stem for path in golden.FOLDER.glob("*.json")} == set(golden.CASES)


def test_the_page_is_what_the_program_prints():
    assert golden.table() in PAGE.read_text(), "run: python tests/support/golden.py, and paste it into the page"
