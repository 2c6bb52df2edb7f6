"""The contract of the models: what training and comparisons rely on."""

import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sam_bench.api import Batch
from sam_bench.contract.model_subject import SAMPLES, ModelSubject, measured
from sam_bench.contract.problem import frozen, same
from sam_bench.contract.result import Broken, NotApplicable, Point, Report, Verdict, point, results
from sam_bench.datasets.task import Task
from sam_bench.optim import SAM

PASSES = 20  # with other random draws, until every tensor has had a gradient
TOLERANCE, BF16_TOLERANCE = 1e-4, 0.1  # largest difference of an output, in units of the largest output


def _differ(a: Tensor, b: Tensor) -> float:
    """The largest difference in units of the largest output."""
    return ((a - b).abs().max() / a.abs().max().clamp(min=1e-6)).item()


def _close(a: Tensor, b: Tensor, what: str, tolerance: float = TOLERANCE) -> float:
    if not (apart := _differ(a, b)) <= tolerance:
        raise Broken(
            f"{what} an output differs by {apart:.1e} of the largest output, more than the allowed {tolerance:g}"
        )
    return apart


@point("1", "the output has the shape that the task asks for",
       "forward(batch) must return (n, num_outputs) or (heads, n, num_outputs), with finite values.")  # fmt: skip
def shape(subject: ModelSubject) -> str:
    """The shape for the task's number of outputs."""
    with torch.no_grad():
        output = subject.built()(subject.batch())
    wanted = (SAMPLES, subject.task.num_outputs)
    if tuple(output.shape[-2:]) != wanted or output.dim() not in (2, 3):
        raise Broken(f"{tuple(output.shape)} for {wanted[0]} samples and {wanted[1]} outputs")
    if not output.isfinite().all():
        raise Broken("an output is not finite at the initialisation")
    return f"{tuple(output.shape)} for {SAMPLES} samples"


@point("2", "every parameter gets a gradient at its initialisation",
       "A gain or weight that starts at zero can cut off what lies behind it: start it elsewhere. A parameter that the "
       "loss never reaches should not be there.")  # fmt: skip
def gradients(subject: ModelSubject) -> str:
    """No gradient that is missing or zero in all passes; says how many come alive after two steps."""
    model = subject.built()
    named = dict(model.named_parameters())
    dead = _without_gradient(subject, model)
    if not dead:
        return f"all of {len(named)} tensors"
    still = set(dead) & set(_without_gradient(subject, subject.moved()))
    shown = ", ".join(dead[:4]) + (f" and {len(dead) - 4} more" if len(dead) > 4 else "")
    raise Broken(f"{len(dead)} of {len(named)} get none: {shown}; after two steps {len(still)} of them")


def _without_gradient(subject: ModelSubject, model: nn.Module) -> list[str]:
    """Tensors without gradient in any of some passes: dropout or a random depth may leave one out now and then."""
    dead: list[str] = []
    for _ in range(PASSES):
        torch.autograd.backward(subject.loss(model))
        named = model.named_parameters()
        dead = [name for name, p in named if p.requires_grad and (p.grad is None or not bool(p.grad.any()))]
        if not dead:
            break
    return dead


@point("3", "the order of a batch and its other samples change nothing",
       "In evaluation mode a sample's output may depend on that sample alone: mask the padding, pool over its own "
       "atoms only, no statistics of the batch.")  # fmt: skip
def mates(subject: ModelSubject) -> str:
    """Outputs of the batch backwards, and of each pair of samples by itself."""
    model = subject.moved()
    whole = subject.outputs(model)
    backwards = subject.outputs(model, subject.samples.flip(0)).flip(0)
    largest = _close(whole, backwards, "with the batch in reverse order")
    for start in range(0, SAMPLES, 2):
        pair = subject.outputs(model, subject.samples[start : start + 2])
        largest = max(largest, _close(whole[start : start + 2], pair, "with other samples in the batch"))
    return f"largest difference {largest:.0e} of the largest output"


@point("4", "renumbering the atoms of a molecule changes nothing",
       "Sum, average or attend over atoms and bonds; nothing may read an atom's number.")  # fmt: skip
def renumbering(subject: ModelSubject) -> str:
    """Outputs of the same molecules with their atoms in reverse order."""
    if subject.renumbered is None:
        raise NotApplicable("for molecules only")
    samples, batch = subject.renumbered
    model = subject.moved()
    usual, reverse = subject.outputs(model, samples), subject.outputs(model, batch=batch)
    apart = _close(usual, reverse, "with the atoms in reverse order")
    return f"largest difference {apart:.0e} of the largest output ({len(samples)} molecules)"


@point("5", "evaluation is deterministic", "Switch off dropout and every other random draw in evaluation mode.")
def evaluation(subject: ModelSubject) -> str:
    """Two passes with other random numbers, to the last bit."""
    model, found = subject.moved(), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(subject.outputs(model))
    if not torch.equal(*found):
        raise Broken(f"two passes over the same batch differ by {_differ(*found):.1e} of the largest output")
    return "two passes are equal to the last bit"


@point("6", "it can be saved and loaded", "Keep every tensor that the output depends on in a parameter or a buffer.")
def saving(subject: ModelSubject) -> str:
    """Its state through torch.load(weights_only=True) into a model of another seed."""
    model, other, file = subject.moved(), subject.built(seed=1), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(subject.outputs(model), subject.outputs(other)):
        raise Broken("another model that loads its state gives different outputs")
    return f"{len(file.getvalue()) / 2**20:.1f} MiB; another model that loads it gives the same outputs"


@point("7", "the same seed gives the same bits",
       "Draw from torch's global generator only; no set or dict order, no hash, no clock.")  # fmt: skip
def seeded(subject: ModelSubject) -> str:
    """Weights, and the loss and gradients of a training pass."""
    found = []
    for _ in range(2):
        model = subject.built(seed=3)
        torch.autograd.backward(subject.loss(model))
        found.append([(p.detach(), p.grad) for p in model.parameters()])
    if not all(torch.equal(a[0], b[0]) for a, b in zip(*found, strict=True)):
        raise Broken("two models with the same seed start with different weights")
    if not all(_same_gradient(a[1], b[1]) for a, b in zip(*found, strict=True)):
        raise Broken("two training passes with the same seed have different gradients")
    return "weights and gradients are equal to the last bit"


def _same_gradient(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


@point("8", "bf16 autocast is close to float32",
       "Keep sums over many terms, norms and softmax in float32; large constants such as masks must fit.")  # fmt: skip
def bf16(subject: ModelSubject) -> str:
    """Outputs and gradients under autocast: finite, outputs within a tenth of the largest."""
    model = subject.moved()
    exact = subject.outputs(model)
    with torch.autocast("cpu", torch.bfloat16):
        rough = subject.outputs(model)
        model.train()
        loss = subject.loss(model)
    torch.autograd.backward(loss)
    if any(p.grad is not None and not p.grad.isfinite().all() for p in model.parameters()):
        raise Broken("under bf16 autocast a gradient is not finite")
    return f"an output differs by {_close(exact, rough, 'under bf16 autocast', BF16_TOLERANCE):.0e} of the largest"


@point("9", "a resumed training equals an uninterrupted one, to the last bit",
       "What a later pass reads must be in state_dict: counters and caches as buffers, draws from torch's global "
       "generator.")  # fmt: skip
def resume(subject: ModelSubject) -> str:
    """Four steps of SAM, and two of them from a state saved after two."""
    model = subject.built()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), model)
    _train(subject, model, optimizer, 2)
    weights, state = frozen(dict(model.state_dict())), frozen(optimizer.state_dict())
    draws = torch.get_rng_state()
    _train(subject, model, optimizer, 2)
    again = subject.built(seed=5)
    second = SAM(torch.optim.SGD(again.parameters(), lr=1e-3, momentum=0.9), again)
    again.load_state_dict(weights)
    second.load_state_dict(state)
    torch.set_rng_state(draws)
    _train(subject, again, second, 2)
    if not same(dict(model.state_dict()), dict(again.state_dict())):
        raise Broken("four steps, and two plus two with a saved state between, end with different weights")
    return "four steps of SAM, saved after two: equal to the last bit"


def _train(subject: ModelSubject, model: nn.Module, optimizer: SAM, steps: int) -> None:
    def closure() -> Tensor:
        loss = subject.loss(model)
        torch.autograd.backward(loss)
        return loss

    for _ in range(steps):
        optimizer.step(closure)


POINTS: tuple[Point, ...] = (shape, gradients, mates, renumbering, evaluation, saving, seeded, bf16, resume)


def model_contract(make: Callable[[], nn.Module], task: Task, *, name: str = "model",
                   renumbered: tuple[Tensor, Batch] | None = None, points: Sequence[Point] = POINTS
                   ) -> Report:  # fmt: skip
    """Check a model against the points of docs/check.md, on the first samples of `task`.

    `make()` builds the model from torch's global generator. `renumbered` holds samples (n,) of the task and a batch of
    the same molecules with their atoms in another order. `report.demand()` raises AssertionError where a point failed.
    """
    return check(ModelSubject(name, make, task, renumbered), points)


def check(subject: ModelSubject, points: Sequence[Point] = POINTS) -> Report:
    """The report on an existing subject."""
    found = results(points, subject)
    return Report("model", subject.name, found, measured(subject) if found[0].verdict is Verdict.PASSED else {})
