"""Point 9: two ranks are one process on the whole batch, and take the same decisions."""

import subprocess
import sys

import pytest
import torch
from support import ROOT, ranks
from support.methods import METHODS, net
from support.ranks import OWN_SAMPLES, RANKS

from sam_bench.optim import SAM, distributed

pytestmark = pytest.mark.xdist_group("optimizer ranks")  # they share two processes


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[dict]:
    """The results of both ranks; a deadlock ends in the time limit."""
    folder = tmp_path_factory.mktemp("ranks")
    started = [
        subprocess.Popen([sys.executable, ranks.__file__, str(rank), str(folder / "meeting"), str(folder / "out")],
                         cwd=ROOT)
        for rank in range(RANKS)
    ]  # fmt: skip
    try:
        assert [process.wait(timeout=200) for process in started] == [0] * RANKS
    finally:
        for process in started:
            process.kill()
    return [torch.load(f"{folder / 'out'}.{rank}") for rank in range(RANKS)]


@pytest.fixture(scope="module")
def alone() -> dict:
    return ranks.all_runs(None)


def test_all_ranks_agree(runs):
    first, second = runs
    for name in first:
        assert torch.equal(first[name]["w"], second[name]["w"]), name
        assert first[name]["counts"] == second[name]["counts"], name


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OWN_SAMPLES])
def test_ranks_are_one_process_on_the_whole_batch(name, runs, alone):
    assert runs[0][name]["counts"] == alone[name]["counts"]
    # Adam divides by the size of the gradient and so magnifies rounding, LookSAM by that of g_v.
    torch.testing.assert_close(runs[0][name]["w"], alone[name]["w"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_m_sharpness_per_device_is_pieces_of_that_size(name, runs, alone):
    together = runs[0][f"{name} per device"]["w"]
    torch.testing.assert_close(together, alone[f"{name} per device"]["w"], rtol=0, atol=1e-9)
    assert not torch.equal(together, runs[0][name]["w"])


def test_a_bad_loss_on_one_rank_skips_the_step_on_all(runs):
    assert [run["one bad rank"]["counts"]["skipped"] for run in runs] == [1, 1]


def test_the_device_option_needs_the_ddp_model(monkeypatch):
    monkeypatch.setattr(distributed, "several_ranks", lambda: True)
    model = net()
    with pytest.raises(TypeError, match="DistributedDataParallel"):
        distributed.local_passes(model, True)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model, m_sharpness="device")
    assert optimizer.local_passes
