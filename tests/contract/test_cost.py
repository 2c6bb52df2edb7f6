"""The cost that `sam-bench check` shows: counted passes, one thread, a ratio that other work does not spoil."""

import torch

from sam_bench.contract import cost
from sam_bench.contract.subject import Subject
from sam_bench.optim import SAM
from sam_bench.training import threads


def test_the_cost_is_that_of_one_thread(monkeypatch):
    """Processor time counts waiting threads too: with two beside other work, SAM's ratio went from 0.5 to 5."""
    monkeypatch.setattr(cost, "REPEATS", 2)
    monkeypatch.setattr(cost, "STEPS", 2)
    used = []

    def watched(arms, args):
        used.append(torch.get_num_threads())
        return measure(arms, args)

    measure = cost.measure
    monkeypatch.setattr(cost, "measure", watched)
    with threads.using(2):
        found = cost.measured(Subject.of(SAM))
        assert torch.get_num_threads() == 2
    assert used == [1] == [found["threads"]]
    assert found["passes_per_step"] == 2
    assert len(found["ratio"]) == 2
