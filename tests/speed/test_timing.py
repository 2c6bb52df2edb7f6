"""How sam-bench speed measures: arms in turn, ratios turn by turn."""

from argparse import Namespace

import torch

from sam_bench.speed import timing


def test_arms_take_turns_after_one_warm_up(monkeypatch):
    calls = []
    ticks = iter(range(100))
    monkeypatch.setitem(timing.CLOCKS, "cpu", lambda: next(ticks))
    arms = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = timing.interleave(arms, Namespace(repeats=3, clock="cpu"), torch.device("cpu"))
    assert "".join(calls) == "ab" + "ab" * 3
    assert seconds == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_ratios_are_turn_by_turn():
    assert timing.ratios({"a": [2.0, 9.0], "b": [1.0, 3.0]}, "a", "b") == [2.0, 3.0]
    assert timing.spread([1.0, 3.0, 2.0], ".1f") == "2.0 (1.0 - 3.0)"
