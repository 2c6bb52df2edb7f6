"""Point 7 of the optimizers: what a training loop does around `step`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.contract.problem import BASES, Closure, frozen, net, weights
from sam_bench.contract.result import Broken, point
from sam_bench.contract.robustness import apart
from sam_bench.contract.subject import Subject


@point("7", "groups, schedulers, clipping, accumulation, frozen and unused parameters work",
       "Read lr and rho from each group at every step, clip the direction once, clear gradients before each pass, and "
       "leave a parameter alone that had no gradient in any pass.")  # fmt: skip
def loops(subject: Subject) -> str:
    """All checks of this module, one after another; what the optimizer does not support is skipped and named."""
    done: list[str] = []
    left_out: list[str] = []
    for what, check in CHECKS.items():
        (done if check(subject) else left_out).append(what)
    return ", ".join(done) + (f"; it has no {', no '.join(left_out)}" if left_out else "")


def _groups(subject: Subject) -> bool:
    """Groups with their own radius and learning rate, over every base."""
    if subject.plain or not subject.ours:
        return False
    for base in subject.bases:
        model = net()
        params = list(model.parameters())
        parts = [{"params": params[:2], "rho": 0.2, "lr": 0.05}, {"params": params[2:]}]
        optimizer = subject.make(model, BASES[base](parts))
        subject.train(optimizer, model, 8)
        rhos = [group["rho"] for group in optimizer.param_groups]
        if rhos != [0.2, optimizer.default_rho] or not weights(model).isfinite().all():
            raise Broken(f"two groups over {base}: their rho are {rhos}, not 0.2 and {optimizer.default_rho}")
    _radius_of_a_group(subject)
    return True


class Watched(Closure):
    """Notes the weights that each call finds."""

    def __init__(self, model: nn.Module, step: int):
        super().__init__(model, step)
        self.found: list[Tensor] = []

    def __call__(self, index: Tensor | None = None, backward: bool = True) -> Tensor:
        """The losses (n,), detached."""
        self.found.append(weights(self.model))
        return super().__call__(index, backward)


def _radius_of_a_group(subject: Subject) -> None:
    """A parameter whose group has rho = 0 is not perturbed, whatever rho the other group has."""
    model = net()
    params = list(model.parameters())
    parts = [{"params": params[:2], "rho": 0.5}, {"params": params[2:], "rho": 0.0}]
    optimizer, first = subject.make(model, torch.optim.SGD(parts, lr=0.01)), sum(p.numel() for p in params[:2])
    for step in range(4):
        closure, before = Watched(model, step), weights(model)
        subject.step(optimizer, closure)
        if any(not torch.equal(found[first:], before[first:]) for found in closure.found):
            raise Broken("a parameter is perturbed although its group has rho = 0")


def _schedule(subject: Subject) -> bool:
    """A torch scheduler on the optimizer has the same effect as setting the learning rate by hand."""
    model, other = net(), net()
    optimizer, second = subject.make(model), subject.make(other)
    initial = second.param_groups[0]["lr"]
    driven = getattr(optimizer, "inner", optimizer)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(driven, T_max=8)
    for step in range(8):
        subject.train(optimizer, model, 1, start=step)
        schedule.step()
        second.param_groups[0]["lr"] = initial * (1 + math.cos(math.pi * step / 8)) / 2
        subject.train(second, other, 1, start=step)
    apart(model, other, 1e-6, "under a cosine schedule, against the same rates set by hand")
    return True


def _clipping(subject: Subject) -> bool:
    """`clip_norm` acts once, on the gradient that the base gets, like torch's clip_grad_norm_."""
    if "clip_norm" not in subject.takes:
        return False
    model, bare_model = net(), net()
    optimizer, bare = subject.neutral(model, clip_norm=0.05), BASES["momentum"](bare_model.parameters())
    for step in range(6):
        subject.train(optimizer, model, 1, start=step)
        bare.zero_grad()
        Closure(bare_model, step)()
        nn.utils.clip_grad_norm_(bare_model.parameters(), 0.05)
        bare.step()
    apart(model, bare_model, 0.0, "clip_norm=0.05 without perturbation, against the base with clip_grad_norm_")
    return True


class Micro(Closure):
    """The same batch in three micro-batches, all in one call."""

    def __call__(self, index: Tensor | None = None, backward: bool = True) -> Tensor:
        """The losses (n,), detached."""
        rows = torch.arange(len(self.x)) if index is None else index
        parts = []
        for part in rows.chunk(3):
            losses = nn.functional.cross_entropy(self.model(self.x[part]), self.y[part], reduction="none")
            if backward:
                torch.autograd.backward(losses.sum() / len(rows))
            parts.append(losses.detach())
        self.calls += 1
        return torch.cat(parts)


def _accumulation(subject: Subject) -> bool:
    """A closure that accumulates over micro-batches gives the same step as the whole batch."""
    model, other = net(dtype=torch.float64), net(dtype=torch.float64)
    optimizer, second = subject.make(model), subject.make(other)
    for step in range(8):
        subject.step(optimizer, Closure(model, step, dtype=torch.float64))
        subject.step(second, Micro(other, step, dtype=torch.float64))
    apart(model, other, 1e-5, "three micro-batches in one closure, against the whole batch")
    return True


class Partial(nn.Module):
    """A model with a frozen layer, an unused one, and one that is used in every other pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen, self.used = nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 3)
        self.unused, self.sometimes = nn.Linear(3, 3), nn.Linear(6, 3)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        """x (n, 6) -> (n, 3)."""
        self.passes += 1
        y: Tensor = self.used(self.frozen(x))
        return y + self.sometimes(x) if self.passes % 2 else y


def _unused(subject: Subject) -> bool:
    """Parameters that are frozen, or had no gradient in any pass, do not change and get no state."""
    for base in subject.bases:
        model = Partial()
        optimizer = subject.make(model, base)
        before = frozen(model.state_dict())
        subject.train(optimizer, model, 8)
        after = model.state_dict()
        for key in before:
            still = torch.equal(before[key], after[key])
            if key.startswith(("frozen", "unused")) and not still:
                raise Broken(f"over {base}: {key} changed, though it is {key.partition('.')[0]}")
            if key.startswith("used") and still:
                raise Broken(f"over {base}: beside frozen and unused layers {key} is not trained")
        if any(p.grad is not None for p in [*model.frozen.parameters(), *model.unused.parameters()]):
            raise Broken(f"over {base}: a frozen or unused parameter has a gradient after the step")
        if any(optimizer.state.get(p) for p in model.unused.parameters()):
            raise Broken(f"over {base}: an unused parameter has a state")
    return True


def _nothing_at_all(subject: Subject) -> bool:
    """If there is no gradient at all, the error names the parameters."""
    if not subject.ours:
        return False
    model = net()
    optimizer = subject.make(model)
    try:
        optimizer.step(lambda index=None, backward=True: torch.zeros(12), samples=torch.arange(12))
    except RuntimeError as error:
        if "0.weight" not in str(error):
            raise Broken(f"a closure without backward: the error names no parameter ({error})") from None
        return True
    raise Broken("a closure that never calls backward is accepted as a step")


def _added(subject: Subject) -> bool:
    """Parameters may be added between two steps."""
    if not subject.ours:
        return False
    model, extra = net(), nn.Linear(3, 3)
    optimizer = subject.make(model)
    subject.train(optimizer, model, 6)
    whole = nn.Sequential(*model, extra)
    optimizer.model = whole
    optimizer.add_param_group({"params": list(extra.parameters()), "lr": 0.01})
    subject.train(optimizer, whole, 8, start=6)
    if optimizer.memory["step"] != 14 or not weights(whole).isfinite().all():
        raise Broken(f"after add_param_group it counts {optimizer.memory['step']} of 14 steps")
    if optimizer.param_groups[1]["rho"] != optimizer.default_rho:
        raise Broken("a group added later does not get the default rho")
    return True


CHECKS: dict[str, Callable[[Subject], Any]] = {
    "groups with their own rho": _groups,
    "a torch schedule": _schedule,
    "clip_norm": _clipping,
    "micro-batches": _accumulation,
    "frozen and unused parameters": _unused,
    "an error if nothing has a gradient": _nothing_at_all,
    "parameters added later": _added,
}
