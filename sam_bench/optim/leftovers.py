"""Find gradients that somebody computed before a step: the step would drop them without a word.

The usual gradient accumulation (two `backward()`, then `step(closure)`) leaves such gradients. Every pass of a step
starts from cleared gradients, so only the last micro-batch would be trained on. A gradient that our own step wrote has
a mark: the version of its tensor at that time. Comparing marks needs no kernel launch and no wait for the device.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

MARK = "_sam_bench_version"  # an attribute of the gradient tensor, so it disappears with the gradient


def mark(params: Sequence[Tensor]) -> None:
    """Mark the current gradients of `params` as used: a step may drop them."""
    for p in params:
        if (g := p.grad) is not None:
            setattr(g, MARK, g._version)


def foreign(params: Sequence[Tensor]) -> list[Tensor]:
    """The trainable `params` whose gradient was computed or changed since the last `mark` and is not all zero."""
    found = [p for p in params if p.requires_grad and p.grad is not None and not _marked(p.grad)]
    grads = [p.grad for p in found if p.grad is not None]
    if not grads or any(g.layout is not torch.strided for g in grads):
        return found
    # Rarely reached. A foreign zero_grad(set_to_none=False) leaves zeros, and dropping zeros loses nothing.
    return found if torch.stack([s.float() for s in torch._foreach_norm(grads, 1)]).any() else []


def _marked(g: Tensor) -> bool:
    return getattr(g, MARK, None) == g._version


@contextmanager
def cleared(params: Sequence[Tensor], model: nn.Module, method: str) -> Iterator[None]:
    """Clear the gradients for a pass, but leave foreign ones to the closure, which may clear them itself.

    Raises RuntimeError if the closure does not clear them.
    """
    left = foreign(params)
    kept = {id(p) for p in left}
    for p in params:
        if id(p) not in kept:
            p.grad = None
    if not left:
        yield
        return
    before = [(p, p.grad, p.grad._version) for p in left if p.grad is not None]
    lost: list[Tensor] = []

    def look(p: Tensor, g: Tensor, version: int, _: Tensor | None = None) -> None:
        if p.grad is g and g._version == version:
            lost.append(p)

    # The hook of a parameter runs before autograd adds the new gradient to the old one.
    hooks = [entry[0].register_hook(partial(look, *entry)) for entry in before]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for entry in before:
        look(*entry)
    if lost:
        raise RuntimeError(_refusal(lost, model, method))


def _refusal(lost: Sequence[Tensor], model: nn.Module, method: str) -> str:
    names = {id(p): name for name, p in model.named_parameters()}
    ids = list(dict.fromkeys(id(p) for p in lost))
    shown = ", ".join(names.get(i, "a tensor") for i in ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
    return (
        f"{method}.step found gradients that it did not write, of {shown}. Every pass of a step starts from cleared "
        "gradients, so these would be lost. What to do, by where they come from:\n"
        "- gradient accumulation: call no backward() before step, give step one closure for each micro-batch instead: "
        "optimizer.step([closure_1, closure_2]), or optimizer.step(optimizer.accumulate(closures, sizes=[64, 29])) "
        "where micro-batches differ in size\n"
        "- a first backward() outside the closure, as other SAM packages want it: leave it out\n"
        "- clip_grad_norm_, unscale_ or another change of p.grad between steps: it has no effect; use the options "
        "clip_norm= and scaler=\n"
        "- something else, and they may go: optimizer.zero_grad() before step"
    )
