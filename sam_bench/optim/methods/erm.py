"""ERM: the base optimizer alone, through the same step as every method."""

from sam_bench.optim.base import SharpnessAware
from sam_bench.optim.claims import Claims
from sam_bench.optim.oracle import Oracle
from sam_bench.optim.vector import Vector


class ERM(SharpnessAware):
    """Descend along the gradient `g` (empirical risk minimisation). Cost 1; `rho` has no effect."""

    claims = Claims(passes=lambda optimizer, steps, n: steps)

    def direction(self, oracle: Oracle) -> Vector:
        """`g`."""
        return oracle()
