"""Check pytorch_optimizer's SAM against the ten points of the contract, with an adapter of ten lines.
Command: python examples/check_foreign.py
Expected output: TheirSAM fails sam_bench contract 1.0: 5, 6, 8, 10
"""

import pytorch_optimizer

from sam_bench.contract import optimizer_contract
from sam_bench.optim.claims import Claims


class TheirSAM(pytorch_optimizer.SAM):
    """Built as `TheirSAM(base, model, rho=...)` and stepped with one closure: the contract needs nothing more."""

    claims = Claims(passes=lambda optimizer, steps, n: 2 * steps, recorded="SAM")

    def __init__(self, base, model, *, rho: float = 0.05):
        known = {key: base.defaults[key] for key in ("lr", "momentum", "betas", "weight_decay") if key in base.defaults}
        super().__init__(model.parameters(), type(base), rho=rho, **known)

    def step(self, closure):
        """Their recipe: a pass before the step, and a closure that clears the gradients."""
        self.zero_grad()
        loss = closure()
        super().step(closure)
        return loss


if __name__ == "__main__":
    report = optimizer_contract(TheirSAM)
    for result in report.failed:
        print(f"{result.point:>2}. {result.title}: {result.seen}")
    print(report.badge)
