"""Point 8 of the optimizers: bf16 and fp16, with torch's GradScaler."""

from typing import Any

import torch
from torch import Tensor, nn

from sam_bench.contract.problem import BASES, Backwards, Closure, frozen, net, same, weights
from sam_bench.contract.result import Broken, NotApplicable, point
from sam_bench.contract.robustness import apart
from sam_bench.contract.subject import Subject

OVERFLOW = 1e39  # a factor that overflows the gradient and not the loss: what fp16 does


def scaler() -> torch.amp.GradScaler:
    """A loss scale of 16 that grows every third step."""
    return torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=3)


@point("8", "bf16 and fp16 work; an overflow in any pass skips the step and changes only the loss scale",
       "Take `scaler=`: unscale each pass's gradient, skip the step when any pass is not finite, and move the scale "
       "as torch does; never GradScaler.step(closure). Keep averages in float32.")  # fmt: skip
def precision(subject: Subject) -> str:
    """Autocast; a scale that is a power of two; an overflow in each pass; weights in bf16."""
    _autocast(subject, torch.bfloat16)
    _weights_in_bf16(subject)
    if "scaler" not in subject.takes:
        if subject.claims.passes is not None and subject.claims.passes(_one(subject), 1, 12) == 1:
            raise NotApplicable("bf16 works; it takes no scaler=, but with one pass per step the loop can handle fp16")
        raise Broken("it takes no scaler=, so it cannot skip a step in which one of its passes overflows")
    _autocast(subject, torch.float16)
    _power_of_two(subject)
    seen = sum(_overflow(subject, at) for at in (0, 1))
    return f"bf16, fp16 and weights in bf16 train; an overflow in each of {seen} pass(es) moved nothing"


class Inside(Closure):
    """Switches bf16 autocast on in each pass."""

    def __call__(self, index: Tensor | None = None, backward: bool = True) -> Tensor:
        """The losses (n,), detached."""
        with torch.autocast("cpu", torch.bfloat16):
            return super().__call__(index, backward)


def _one(subject: Subject) -> Any:
    return subject.make(net())


def _adam(subject: Subject) -> str:
    return "itself" if subject.plain else "adam"


def _autocast(subject: Subject, dtype: torch.dtype) -> None:
    half = dtype is torch.float16
    ours = torch.amp.GradScaler("cpu", init_scale=256.0) if half else None
    model = net()
    optimizer = subject.make(model, _adam(subject), **({"scaler": ours} if half else {}))
    with torch.autocast("cpu", dtype):
        for step in range(8):
            subject.step(optimizer, Closure(model, step, scaler=ours))
    kept = weights(model)
    if not kept.isfinite().all() or kept.dtype != torch.float32:
        raise Broken(f"under autocast to {dtype} the weights are {kept.dtype}, finite: {bool(kept.isfinite().all())}")
    if not subject.ours:
        return
    if optimizer.memory["skipped"]:
        raise Broken(f"under autocast to {dtype} it skipped {optimizer.memory['skipped']} of 8 good steps")
    if not half:  # torch caches the weights that it has converted until its context ends
        other = net()
        within = subject.make(other, _adam(subject))
        for step in range(8):
            subject.step(within, Inside(other, step))
        apart(model, other, 0.0, "autocast around the steps, compared with autocast in the closure")


def _weights_in_bf16(subject: Subject) -> None:
    """It trains, its averages are in float32, and without perturbation it is the base."""
    if not subject.ours:
        return
    for base in ("momentum", "adam"):
        model, bare_model = net(dtype=torch.bfloat16), net(dtype=torch.bfloat16)
        optimizer = subject.make(model, base)
        subject.train(optimizer, model, 8, dtype=torch.bfloat16)
        kept = [part for name in optimizer.vectors if name in optimizer.memory for part in optimizer.memory[name].parts]
        if not weights(model).isfinite().all() or {part.dtype for part in kept} - {torch.float32}:
            raise Broken(f"weights in bf16 over {base}: memory in { ({part.dtype for part in kept}) }")
        model = net(dtype=torch.bfloat16)
        neutral, bare = subject.neutral(model, base), BASES[base](bare_model.parameters())
        subject.train(neutral, model, 5, dtype=torch.bfloat16)
        for step in range(5):
            bare.zero_grad()
            Closure(bare_model, step, dtype=torch.bfloat16)()
            bare.step()
        apart(model, bare_model, 0.0, f"weights in bf16, without perturbation, against {base} alone")


def _power_of_two(subject: Subject) -> None:
    """A loss scale that is a power of two changes no bit, and grows as torch's."""
    model, other = net(), net()
    ours = scaler()
    optimizer, without = subject.make(model, _adam(subject), scaler=ours), subject.make(other, _adam(subject))
    for step in range(10):
        subject.step(optimizer, Closure(model, step, scaler=ours))
    subject.train(without, other, 10)
    apart(model, other, 0.0, "with a loss scale that is a power of two, compared with none")
    if ours.get_scale() != 2.0**4 * 2**3:
        raise Broken(f"after ten good steps the loss scale is {ours.get_scale():g}, torch's would be 128")


def _overflow(subject: Subject, at: int) -> bool:
    """Whether the sixth step has a pass of that number; raises Broken if its overflow changes anything."""
    model, ours = net(norm=True), scaler()
    optimizer = subject.make(model, _adam(subject), scaler=ours)
    for step in range(5):
        subject.step(optimizer, Closure(model, step, scaler=ours))
    before, scale = _state(model, optimizer), ours.get_scale()
    closure = Backwards(model, 5, at=at, scaler=ours, factor=OVERFLOW)
    subject.step(optimizer, closure)
    if closure.calls <= at:
        return False
    if not same(_state(model, optimizer), before):
        raise Broken(f"an overflow in pass {at + 1} moved weights, state or statistics")
    if ours.get_scale() != scale / 2:
        raise Broken(f"after an overflow in pass {at + 1} the loss scale went from {scale:g} to {ours.get_scale():g}")
    if subject.ours and optimizer.memory["skipped"] != 1:
        raise Broken(f"an overflow in pass {at + 1} is not counted as a skipped step")
    return True


def _state(model: nn.Module, optimizer: Any) -> Any:
    """Copies of everything that an overflow must not change."""
    if not hasattr(optimizer, "memory"):  # torch's own loop lets the statistics of the model move
        return frozen([[p.detach() for p in model.parameters()], optimizer.state_dict()])
    memory = {key: value for key, value in optimizer.memory.items() if key not in ("skipped", "growth")}
    return frozen([dict(model.state_dict()), optimizer.base.state_dict(), memory])
