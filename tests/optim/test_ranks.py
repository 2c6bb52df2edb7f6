"""Point 9: two ranks are one process on the whole batch, and take the same decisions."""

import pytest
import torch
from support.methods import METHODS, SUBJECTS, net

from sam_bench.contract import Verdict, ranks
from sam_bench.optim import SAM, distributed

pytestmark = pytest.mark.xdist_group("optimizer ranks")  # they share two processes


@pytest.fixture(scope="module")
def started():
    """What both ranks say of every method; a deadlock ends in the time limit."""
    return ranks.across_ranks(list(SUBJECTS.values()))


@pytest.mark.parametrize("name", METHODS)
def test_ranks_are_one_process_on_the_whole_batch(name, started):
    """And agree, also after a NaN on one of them and with a perturbation per device."""
    result = ranks.ranks(SUBJECTS[name], started)
    assert result.verdict is Verdict.PASSED, f"{result.seen}. {result.advice}"


def test_who_is_not_one_process():
    """Each rank chooses among its own samples."""
    assert {name for name in METHODS if not SUBJECTS[name].claims.one_process} == {"ausam", "esam"}


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_m_sharpness_per_device_is_pieces_of_that_size(name, started):
    together = started[name][0]["device"]["w"]
    alone = ranks.train(SUBJECTS[name], None, m_sharpness=ranks.pieces(SUBJECTS[name], None))
    torch.testing.assert_close(together, alone["w"], rtol=0, atol=1e-9)
    assert not torch.equal(together, started[name][0]["whole"]["w"])


def test_the_device_option_needs_the_ddp_model(monkeypatch):
    monkeypatch.setattr(distributed, "several_ranks", lambda: True)
    model = net()
    with pytest.raises(TypeError, match="DistributedDataParallel"):
        distributed.local_passes(model, True)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model, m_sharpness="device")
    assert optimizer.local_passes
