"""Mistakes of whoever writes a method, and what they are told at its first step."""

import pytest
import torch
from support.methods import Closure, net, weights

from sam_bench.optim import SAM, SharpnessAware


class Forgetful(SAM):
    def direction(self, oracle):
        self.memory["average"] = oracle()
        return self.memory["average"]


class Idle(SAM):
    def direction(self, oracle):
        return self.weights


class Nothing(SAM):
    def direction(self, oracle):
        oracle()


class Nameless(SharpnessAware):
    pass


@pytest.mark.parametrize(("method", "kind", "said"), [
    (Forgetful, TypeError, r"memory\['average'\] is a Vector: a checkpoint needs its name, Forgetful.vectors"),
    (Idle, RuntimeError, r"Idle.direction took no gradient: call oracle\(\)"),
    (Nothing, TypeError, "Nothing.direction returned a NoneType: return a Vector"),
    (Nameless, NotImplementedError, r"Nameless defines no direction\(self, oracle\)"),
])  # fmt: skip
def test_the_author_of_a_method_is_told_what_is_missing(method, kind, said):
    model = net()
    before = weights(model)
    with pytest.raises(kind, match=said):
        method(torch.optim.SGD(model.parameters(), lr=0.1), model).step(Closure(model, 0))
    assert torch.equal(weights(model), before)
