"""Points 1 to 4 of the optimizers: the base and the limits that a method must equal, its cost, and resuming."""

import io
from typing import Any

import torch
from torch import nn

from sam_bench.api import Method
from sam_bench.contract.problem import BASES, TOTAL, Closure, frozen, gap, net, same, weights
from sam_bench.contract.result import Broken, Finding, NotApplicable, point
from sam_bench.contract.subject import Subject
from sam_bench.optim import create_optimizer

LIMIT_BASES = ("momentum", "adam")
STEPS = 14  # more than two cycles of every method at these sizes


@point("1", "without perturbation it is its base, to the last bit",
       "With rho=0 the base must get the plain gradient: write its values into p.grad unchanged, keep what the method "
       "remembers out of base.state, and claim in `claims.neutral` which other options must be off.")  # fmt: skip
def neutral(subject: Subject) -> str:
    """Over every base, compare the weights after each step and the base's own state with those of the base alone."""
    if subject.plain:
        raise NotApplicable("a torch optimizer has no base")
    if "rho" not in subject.takes and not subject.claims.neutral:
        raise NotApplicable("it takes no rho, and claims no option that turns it into its base")
    for base in subject.bases:
        model, bare_model = net(), net()
        optimizer, bare = subject.neutral(model, base), BASES[base](bare_model.parameters())
        for step in range(STEPS):
            subject.train(optimizer, model, 1, start=step)
            bare.zero_grad()
            Closure(bare_model, step)()
            bare.step()
            if not torch.equal(weights(model), weights(bare_model)):
                raise Broken(f"over {base}, step {step}: a weight differs by {gap(model, bare_model):.1e}")
        _same_state(optimizer, bare, base)
    return f"{STEPS} steps over {', '.join(subject.bases)}: equal, state included"


def _same_state(optimizer: Method, bare: torch.optim.Optimizer, base: str) -> None:
    """The base may only hold torch's own state: anything that a method adds breaks Adam or a checkpoint."""
    state, theirs = (
        {index: entry for index, entry in each.state_dict()["state"].items() if entry}
        for each in (getattr(optimizer, "base", optimizer), bare)
    )
    if same(state, theirs):
        return
    added = {key for entry in state.values() for key in entry} - {key for entry in theirs.values() for key in entry}
    raise Broken(f"over {base} the base's state " + (f"also holds {sorted(added)}" if added else "differs"))


@point("2", "at its limits it is the method that it claims to be",
       "Compare the two rules line by line at these options: norms over all parameters, the sign and the order of the "
       "passes.")  # fmt: skip
def limits(subject: Subject) -> str:
    """Compare the method with each of its claimed limits after a dozen steps."""
    claimed = [limit for limit in subject.claims.limits if _reachable(subject, limit.options)]
    if not claimed:
        raise NotApplicable("it claims no limit (claims.limits)")
    for options, method, tolerance in claimed:
        for base in LIMIT_BASES:  # a wrong direction shows over any base
            model, other_model = net(), net()
            optimizer = subject.make(model, base, rho=0.1, **options)
            other = create_optimizer(method, BASES[base], other_model, rho=0.1, total_steps=TOTAL)
            subject.train(optimizer, model, 12)
            subject.train(other, other_model, 12)
            if not (apart := gap(model, other_model)) <= tolerance:
                raise Broken(f"with {_words(options)} it is not {method} over {base}: a weight differs by {apart:.1e}")
    said = "; ".join(f"{_words(options)} is {method}" for options, method, _ in claimed)
    return f"{said} (over {', '.join(LIMIT_BASES)})"


def _reachable(subject: Subject, options: Any) -> bool:
    return set(options) <= subject.takes


def _words(options: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


@point("3", "it takes exactly as many passes as it claims, and counts them",
       "Count one gradient evaluation for each forward and backward on the whole batch, parts of it as such, and claim "
       "the paper's cost in `claims.passes`.")  # fmt: skip
def cost(subject: Subject) -> str:
    """Compare the counters of eleven steps with the claim and with the calls of the closure."""
    steps, model = 11, net()
    optimizer = subject.make(model)
    closures = subject.train(optimizer, model, steps)
    calls = sum(closure.calls for closure in closures)
    passes = _counted(subject, optimizer, closures) if subject.ours else calls
    if subject.claims.passes is None:
        raise Finding(
            f"{passes / steps:.2f} passes per step, but it claims no cost to compare with",
            "claim the paper's cost: claims = Claims(passes=lambda optimizer, steps, n: 2 * steps)",
        )
    claimed = subject.claims.passes(optimizer, steps, len(closures[0].x))
    if abs(passes - claimed) > 1e-6 * max(1.0, claimed):
        raise Broken(f"{passes / steps:.3f} passes per step, but it claims {claimed / steps:.3f}")
    return f"{passes / steps:.2f} passes per step, as claimed ({calls} calls of the closure in {steps} steps)"


def _counted(subject: Subject, optimizer: Any, closures: list[Closure]) -> float:
    """`grad_evals`; raises Broken unless the counters agree with each other and with the closure's calls."""
    memory, steps = optimizer.memory, len(closures)
    if memory["step"] != steps or memory["skipped"]:
        raise Broken(f"{steps} steps were made, but it counts {memory['step']}, with {memory['skipped']} skipped")
    if not 0 <= optimizer.sam_fraction <= 1:
        raise Broken(f"sam_fraction is {optimizer.sam_fraction}")
    if not optimizer.chooses_samples:  # there a call may be of a part of the batch, or forward alone
        calls, second = sum(c.calls for c in closures), sum(c.calls > 1 for c in closures)
        if memory["grad_evals"] != calls:
            raise Broken(f"grad_evals says {memory['grad_evals']}, the closure was called {calls} times")
        if memory["sampled"] != second:
            raise Broken(f"sampled says {memory['sampled']}, {second} steps took a second gradient")
    return float(memory["grad_evals"])


@point("4", "saved at any step and resumed, it continues as if uninterrupted, to the last bit",
       "Everything that a later step reads belongs in state_dict (for a SharpnessAware: in self.memory, its vectors "
       "named in `vectors`), as tensors and plain values, and load_state_dict must take copies. Random draws must be "
       "a function of (seed, step): self.draws() or self.generator().")  # fmt: skip
def resume(subject: Subject) -> str:
    """Over every base, save before each of ten steps, resume, and compare the next step (once: all that are left)."""
    last = 10
    for base in subject.bases:
        model = net()
        optimizer = subject.make(model, base)
        saved = [_saved(model, optimizer)]
        for step in range(last):
            subject.train(optimizer, model, 1, start=step)
            saved.append(_saved(model, optimizer))
        saved[last // 2] = _through_a_file(saved[last // 2])
        for step in range(last):
            steps = last - step if step == last // 2 else 1
            again = net(seed=9)
            resumed = subject.make(again, base)
            again.load_state_dict(frozen(saved[step]["model"]))
            resumed.load_state_dict(frozen(saved[step]["optimizer"]))
            subject.train(resumed, again, steps, start=step)
            _equal(again, resumed, saved[step + steps], f"over {base}, resumed before step {step}, {steps} step(s) on")
        if subject.ours:  # torch's own optimizers share the tensors of a state that they load
            _is_a_copy(subject, base)
    return f"saved before each of {last} steps over {', '.join(subject.bases)}: equal, state included"


def _saved(model: nn.Module, optimizer: Method) -> dict[str, Any]:
    state: dict[str, Any] = frozen({"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()})
    return state


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """A state after torch.save and torch.load; raises Broken if weights_only=True cannot load it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        loaded: dict[str, Any] = torch.load(file, weights_only=True)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Broken(f"torch.load(weights_only=True) refuses its state_dict: {reason}") from error
    if not same(loaded, state):
        raise Broken("its state_dict changes in torch.save and torch.load")
    return loaded


def _equal(model: nn.Module, optimizer: Method, saved: dict[str, Any], where: str) -> None:
    now = _saved(model, optimizer)
    if not same(now["model"], saved["model"]):
        wrong = max((now["model"][key] - value).abs().max().item() for key, value in saved["model"].items())
        raise Broken(f"{where}: a weight differs by {wrong:.1e}")
    if not same(now["optimizer"], saved["optimizer"]):
        raise Broken(f"{where}: the weights are equal, the state is not")


def _is_a_copy(subject: Subject, base: Any) -> None:
    """Loading must copy: two optimizers that share tensors would change each other."""
    model, other = net(), net()
    optimizer, second = subject.make(model, base), subject.make(other, base)
    subject.train(optimizer, model, 5)
    state = optimizer.state_dict()
    second.load_state_dict(state)
    kept = frozen(second.memory)
    subject.train(optimizer, model, 3, start=5)
    optimizer.zero_grad(set_to_none=False)
    for tensor in _tensors(state["memory"]):
        tensor.zero_()
    if not same(second.memory, kept):
        raise Broken(f"over {base}: load_state_dict does not copy: changing the given state changes the optimizer")


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for child in children for tensor in _tensors(child)]
