"""Points 5 and 6 of the optimizers: running statistics count steps, and a failed step changes nothing."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.contract.problem import Backwards, Closure, frozen, gap, net, same, weights
from sam_bench.contract.result import Broken, point
from sam_bench.contract.subject import Subject

# -- 5. running statistics -----------------------------------------------------------------------------------------


class OwnNorm(nn.Module):
    """A custom normalisation layer with a running mean."""

    running_mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        """x (n, 8), centred."""
        if self.training:
            self.running_mean.lerp_(x.detach().mean(0), 0.5)
        return x - x.mean(0)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: nn.BatchNorm1d(8),
    "BatchNorm(momentum=None)": lambda: nn.BatchNorm1d(8, momentum=None),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(8),
    "a custom layer": OwnNorm,
}


@point("5", "running statistics count steps, not passes",
       "Let BatchNorm's statistics move in the first pass of a step only, and put them back after a failed one "
       "(sam_bench.optim.running_stats does both): keep copies of the buffers, the counter included.")  # fmt: skip
def statistics(subject: Subject) -> str:
    """Compare four kinds of layer with twins that only saw the first pass of each step; then let a step raise."""
    steps = 9
    for kind, norm in NORMS.items():
        model, shadow = net(norm=norm()), net(norm=norm())
        optimizer = subject.make(model)
        for step in range(steps):
            shadow[1](_first_input(subject, optimizer, model, step))
        moved, expected = dict(model[1].named_buffers()), dict(shadow[1].named_buffers())
        if not same(moved, expected):
            raise Broken(f"{kind}: after {steps} steps {_difference(moved, expected)}")
    for at in (
        (0, 1) if not subject.plain else ()
    ):  # an optimizer that does not know the model cannot restore its buffers
        _counts_again(subject, at)
    return f"{', '.join(NORMS)}: as the first passes of {steps} steps alone give"


def _first_input(subject: Subject, optimizer: Any, model: nn.Sequential, step: int) -> Tensor:
    """Make one step; returns the input of the layer in its first pass."""
    seen: list[Tensor] = []
    handle = model[1].register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().clone()))
    subject.train(optimizer, model, 1, start=step)
    handle.remove()
    return seen[0]


def _difference(moved: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    if "num_batches_tracked" in moved and moved["num_batches_tracked"] != expected["num_batches_tracked"]:
        return f"it has counted {int(moved['num_batches_tracked'])} batches"
    apart = max((moved[name].double() - value.double()).abs().max().item() for name, value in expected.items())
    return f"a running statistic differs by {apart:.1e}"


def _counts_again(subject: Subject, at: int) -> None:
    model = net(norm=True)
    optimizer, closure = subject.make(model), Closure(model, 0, raises, at)
    try:
        subject.step(optimizer, closure)
    except Interrupted:
        if model[1].num_batches_tracked != 0:
            raise Broken(f"BatchNorm keeps what pass {at + 1} of a step did that raised") from None
        subject.train(optimizer, model, 2)
        if model[1].num_batches_tracked != 2:
            raise Broken("after a step that raised, BatchNorm does not count the next ones") from None


# -- 6. failures ----------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


def raises(model: nn.Module, losses: Tensor) -> Tensor:
    """The closure is interrupted."""
    raise Interrupted


def nan_loss(model: nn.Module, losses: Tensor) -> Tensor:
    """The loss is NaN, the gradients are not."""
    return losses * torch.nan


def inf_gradient(model: nn.Module, losses: Tensor) -> Tensor:
    """One number of one gradient is infinite."""
    for p in model.parameters():
        if p.grad is not None:
            p.grad.view(-1)[0] = torch.inf
            return losses
    return losses


def nan_gradient(model: nn.Module, losses: Tensor) -> Tensor:
    """All gradients are NaN."""
    for p in model.parameters():
        if p.grad is not None:
            p.grad.fill_(torch.nan)
    return losses


def no_gradient(model: nn.Module, losses: Tensor) -> Tensor:
    """The backward pass left no gradient."""
    for p in model.parameters():
        p.grad = None
    return losses


FAILURES = {
    "an exception": (raises, "sgd"),
    "a NaN loss": (nan_loss, "momentum"),
    "an infinite gradient": (inf_gradient, "adam"),
    "a NaN gradient": (nan_gradient, "adamw"),
    "no gradient": (no_gradient, "adam"),
}


@point("6", "a failed pass leaves weights, base, memory and statistics unchanged",
       "Restore the weights from a copy in a `finally` (never by subtraction, never p.data = ...), test the loss and "
       "every gradient for NaN and infinity before the base steps, and put everything else back as well.")  # fmt: skip
def failures(subject: Subject) -> str:
    """Five failures in the first or second pass, at the first step and later; then restoring under a large radius."""
    seen = 0
    for what, (mischief, base) in FAILURES.items():
        for start in (0, 4):
            for at in (0, 1):
                seen += _moves_nothing(subject, what, mischief, base if not subject.plain else "itself", start, at)
    _goes_on(subject)
    _restores_bits(subject)
    _keeps_storage(subject)
    return f"{len(FAILURES)} kinds of failure in {seen} passes moved nothing; weights come back to the last bit"


def everything(model: nn.Module, optimizer: Any) -> Any:
    """Copies of everything that a failed step must not change."""
    if not hasattr(optimizer, "memory"):
        return frozen({"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()})
    memory = {key: value for key, value in optimizer.memory.items() if key != "skipped"}
    return frozen({"model": dict(model.state_dict()), "base": optimizer.base.state_dict(), "memory": memory})


def _moves_nothing(subject: Subject, what: str, mischief: Any, base: Any, start: int, at: int) -> bool:
    """Whether the step had such a pass; raises Broken if its failure changed something."""
    model = net(norm=True)
    optimizer = subject.make(model, base)
    subject.train(optimizer, model, start)
    of_gradients = mischief in (inf_gradient, nan_gradient, no_gradient)
    closure = (Backwards if of_gradients else Closure)(model, start, mischief, at)
    before, where = everything(model, optimizer), [p.data_ptr() for p in model.parameters()]
    failed = False
    try:
        subject.step(optimizer, closure)
    except (Interrupted, RuntimeError, ValueError):
        failed = True
    if closure.calls <= at and not failed:
        return False
    place = f"{what} in pass {at + 1} of step {start}"
    if mischief is raises and not failed:
        raise Broken(f"{place}: it swallowed a BaseException")
    if subject.ours and (failed != (mischief in (raises, no_gradient)) or optimizer.memory["skipped"] == failed):
        raise Broken(f"{place}: it must {'raise' if mischief is no_gradient else 'skip the step and count it'}")
    _compare(subject, before, everything(model, optimizer), place)
    if [p.data_ptr() for p in model.parameters()] != where:
        raise Broken(f"{place}: weights have another storage than before")
    return True


def _compare(subject: Subject, before: dict[str, Any], after: dict[str, Any], place: str) -> None:
    for part in before:
        if same(before[part], after[part]):
            continue
        if part == "model":
            changed = [name for name, value in before[part].items() if not torch.equal(value, after[part][name])]
            raise Broken(f"{place}: {', '.join(changed[:3])} changed")
        if not subject.ours and what_is_left(before[part], after[part]):
            raise Broken(f"{place}: its state keeps {what_is_left(before[part], after[part])}")
        raise Broken(f"{place}: the state of the {part} changed")


def what_is_left(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """New names in an optimizer's state."""
    names = [{str(key) for entry in state["state"].values() for key in entry} for state in (before, after)]
    return sorted(names[1] - names[0])


def _goes_on(subject: Subject) -> None:
    """Training continues after a skipped step."""
    if not subject.ours:
        return
    model = net()
    optimizer = subject.make(model, "adam")
    for step in range(12):
        subject.step(optimizer, Closure(model, step, nan_loss if step % 4 == 0 else None))
    counted = optimizer.memory["skipped"], optimizer.memory["step"]
    if counted != (3, 9) or not weights(model).isfinite().all():
        raise Broken(f"after three NaN steps of twelve it counts {counted[0]} skipped and {counted[1]} made")


def _restores_bits(subject: Subject) -> None:
    """With learning rate 0 no weight changes, however large the radius: a subtraction would leave rounding errors."""
    if subject.plain or "rho" not in subject.takes:
        return
    model = net()
    before = weights(model)
    optimizer = subject.make(model, torch.optim.SGD(model.parameters(), lr=0.0), rho=1e4)
    subject.train(optimizer, model, 5)
    if not torch.equal(weights(model), before):
        apart = (weights(model) - before).abs().max().item()
        raise Broken(f"with learning rate 0 and rho=1e4 a weight moved by {apart:.1e}: it is not restored from a copy")


def _keeps_storage(subject: Subject) -> None:
    """Weights keep their storage, which a compiled model or DDP refers to, and `p.grad` shares none with the memory."""
    model = net()
    optimizer = subject.make(model)
    where = [p.data_ptr() for p in model.parameters()]
    for step in range(8):
        subject.train(optimizer, model, 1, start=step)
        kept = frozen(getattr(optimizer, "memory", None))
        optimizer.zero_grad(set_to_none=False)
        if not same(getattr(optimizer, "memory", None), kept):
            raise Broken(f"after step {step} zeroing p.grad in place changed the method's memory")
    if [p.data_ptr() for p in model.parameters()] != where:
        raise Broken("after some steps the weights are in another storage")


def apart(a: nn.Module, b: nn.Module, tolerance: float, what: str) -> None:
    """Raise Broken if two models differ by more than `tolerance` in a weight."""
    if not (difference := gap(a, b)) <= tolerance:
        raise Broken(f"{what}: a weight differs by {difference:.1e}")
