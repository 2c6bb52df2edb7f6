"""The same methods from another package, used as its documentation says; for `sam-bench speed optimizers`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.errors import UsageError

METHODS = ("sam", "asam", "asam_all", "looksam", "fsam", "gsam")
BASE_OPTIONS = ("lr", "betas", "eps", "momentum", "weight_decay")


def make_and_drive(
    name: str, base: Callable[[nn.Module], torch.optim.Optimizer]
) -> tuple[Callable[[nn.Module], Any], Callable]:
    """A maker of pytorch_optimizer's method `name` with our options around `base`, and what one step of it is.

    Raises UsageError if the package is missing.
    """
    try:
        import pytorch_optimizer as theirs
    except ImportError:
        raise UsageError("--against needs pytorch_optimizer: pip install 'sam-bench[dev]'") from None

    def make(model: nn.Module) -> Any:
        made = base(model)
        options = {key: value for key, value in made.defaults.items() if key in BASE_OPTIONS}
        params, kind = list(model.parameters()), type(made)
        if name == "gsam":
            return theirs.GSAM(params, made, model, SimpleNamespace(step=lambda: 0.05), alpha=0.4)
        if name == "looksam":
            return theirs.LookSAM(params, kind, rho=0.05, k=5, alpha=0.7, **options)
        if name == "fsam":
            return theirs.FriendlySAM(params, kind, rho=0.05, **options)
        adaptive = name != "sam"
        return theirs.SAM(params, kind, rho=0.5 if adaptive else 0.05, adaptive=adaptive, **options)

    return make, _drive_gsam if name == "gsam" else _drive


def _drive(arm: Any) -> None:
    """A pass before the step, then a closure that first clears the gradients."""
    arm.optimizer.zero_grad()
    arm.closure()

    def closure() -> Tensor:
        arm.optimizer.zero_grad()
        return arm.closure()

    arm.optimizer.step(closure)


def _drive_gsam(arm: Any) -> None:
    def closure() -> tuple[Tensor, Tensor]:
        arm.optimizer.zero_grad()
        with torch.enable_grad():
            losses = arm.closure()
        return losses, losses

    arm.optimizer.step(closure)
