"""SAM with one mistake each, of the kind that public code has: what the contract must notice."""

from contextlib import contextmanager

import torch.distributed as dist

from sam_bench.optim import FSAM, SAM
from sam_bench.optim.claims import Claims, Limit
from sam_bench.optim.vector import Vector


class WritesIntoTheBase(SAM):
    """Keeps a copy of the weights in the state of the base."""

    def _update(self, direction, oracle):
        super()._update(direction, oracle)
        for p in filter(self.base.state.get, self.params):
            self.base.state[p]["old_p"] = p.detach().clone()


class ClaimsTooMuch(SAM):
    """Says that k = 1 is SAM, and takes every second step."""

    claims = Claims(passes=lambda optimizer, steps, n: steps + -(-steps // 2), limits=(Limit({"k": 1}, "sam"),))

    def __init__(self, base, model, *, k: int = 1, **options):
        super().__init__(base, model, when=lambda g, memory: memory["step"] % (k + 1) == 0, **options)


class CountsSteps(SAM):
    """Counts a step as one gradient evaluation."""

    def _update(self, direction, oracle):
        evals = self.memory["grad_evals"]
        super()._update(direction, oracle)
        self.memory["grad_evals"] = evals + 1


class ForgetsItsAverage(FSAM):
    """Loads the base and the counters only."""

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.memory.pop("m", None)


class CountsBatchesTwice(SAM):
    """BatchNorm counts both passes."""

    def _update(self, direction, oracle):
        super()._update(direction, oracle)
        for module in self.model.modules():
            if getattr(module, "num_batches_tracked", None) is not None:
                module.num_batches_tracked += 1


class Subtracts(SAM):
    """Restores the weights by subtracting the perturbation."""

    def _complete_groups(self):
        super()._complete_groups()
        self.perturbation = subtracting


@contextmanager
def subtracting(params, eps):
    if eps is not None:
        eps.add_to(params)
    try:
        yield
    finally:
        if eps is not None:
            (-eps).add_to(params)


class TakesNaN(SAM):
    """Steps whatever the gradient is."""

    def __init__(self, base, model, **options):
        super().__init__(base, model, **options | {"check_finite": False})


class TakesOverflows(SAM):
    """Does not look where a loss scale is used."""

    def __init__(self, base, model, *, scaler=None, **options):
        options |= {"check_finite": False} if scaler else {}
        super().__init__(base, model, scaler=scaler, **options)


class GivesZeros(SAM):
    """A parameter that had no gradient gets one of zeros, and weight decay moves it."""

    def _write_gradients(self, direction, touched):
        super()._write_gradients(direction, [True] * len(touched))


class PerTensor(SAM):
    """Says to be SAM, and takes the norm tensor by tensor."""

    claims = Claims(passes=SAM.claims.passes, recorded="SAM")

    def ascent(self, g):
        return self.times_rho(Vector([part / (part.norm() + 1e-12) for part in g.dense()]))


class DecidesAlone(SAM):
    """Each rank takes the second gradient when it likes."""

    claims = Claims()

    def __init__(self, base, model, **options):
        own = dist.get_rank() if dist.is_initialized() else 0
        super().__init__(base, model, when=lambda g, memory: memory["step"] % 2 == own, **options)


# The points that must fail, and no other.
POINTS = {
    WritesIntoTheBase: {"1"},
    ClaimsTooMuch: {"2"},
    CountsSteps: {"3"},
    ForgetsItsAverage: {"4"},
    CountsBatchesTwice: {"5"},
    Subtracts: {"6", "8", "9"},  # rounding is left behind by an overflow, and where ranks perturb on their own
    TakesNaN: {"6", "8", "9"},  # a NaN of one rank reaches both
    TakesOverflows: {"8"},
    GivesZeros: {"7"},
    PerTensor: {"10"},
    DecidesAlone: {"9"},  # the last: it leaves the two ranks in disorder
}
