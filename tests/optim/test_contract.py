"""The contract that every method passes: its points, numbered as in the docs, and what goes beyond them.

The checks themselves are `sam_bench.contract`. Every class is held to all of them; a YAML that is a variant of a class
to those in which its options can matter.
"""

import pytest
import torch
from support.methods import (
    BASES,
    CLASSES,
    EPOCH,
    METHODS,
    SUBJECTS,
    TOTAL,
    VARIANTS,
    Closure,
    has_option,
    make,
    net,
    same,
    train,
    weights,
)
from torch import nn

from sam_bench.contract import Verdict, equivalence, golden, loops, robustness
from sam_bench.contract.robustness import inf_gradient, nan_gradient, nan_loss
from sam_bench.optim import SAM, SharpnessAware, create_optimizer

every_class = pytest.mark.parametrize("name", CLASSES)
every_method = pytest.mark.parametrize("name", METHODS)


def hold(point, subject) -> None:
    result = point(subject)
    assert result.verdict is Verdict.PASSED, f"{result.seen}. {result.advice}"


# -- 1. without perturbation a method is its base ----


@every_method
def test_rho_zero_is_the_base_bit_for_bit(name):
    hold(equivalence.neutral, VARIANTS.get(name, SUBJECTS[name]))


# -- 2. limits in which one method is another ----

WITHOUT_LIMIT = {"erm", "sam", "asam", "msam", "graphsam_reference", "extrapolated_sgd"}


@pytest.mark.parametrize("name", sorted({*CLASSES} - WITHOUT_LIMIT))
def test_limits(name):
    hold(equivalence.limits, SUBJECTS[name])


def test_the_limits_that_are_claimed():
    """None is lost without a word, and a class without one is known to have none."""
    claimed = {name: len(SUBJECTS[name].claims.limits) for name in CLASSES}
    assert {name for name, count in claimed.items() if not count} == WITHOUT_LIMIT
    assert sum(claimed.values()) == 15


def test_adasam_is_sam():
    """The name belongs to the base: AMSGrad."""
    for base in BASES:
        model, other = net(), net()
        train(make("adasam", model, base), model, 5)
        train(make("sam", other, base), other, 5)
        assert torch.equal(weights(model), weights(other))


# -- 3. cost ----


@every_method
def test_pass_counts_are_the_cost(name):
    hold(equivalence.cost, SUBJECTS[name])


@pytest.mark.parametrize("name", ["ae_sam", "ae_looksam", "vsam"])
def test_a_sampled_share_is_neither_none_nor_all(name):
    model = net()
    optimizer = make(name, model)
    train(optimizer, model, TOTAL)
    assert 0 < optimizer.sam_fraction < 1


def test_vsam_takes_exactly_its_quota_in_each_window():
    model = net()
    optimizer = make("vsam", model, K=6, M=2)
    train(optimizer, model, 6 + 5)  # warm-up, and the first window without its renewal
    for _window in range(6):
        before = optimizer.memory["sampled"]
        train(optimizer, model, 6, start=optimizer.memory["step"])
        assert optimizer.memory["sampled"] - before == int(optimizer.memory["s"])


# -- 4. resume ----


@every_method
def test_resume_is_a_no_op(name):
    hold(equivalence.resume, VARIANTS.get(name, SUBJECTS[name]))


# -- 6. failures leave everything as it was ----


@every_method
def test_a_failed_pass_moves_nothing(name):
    hold(robustness.failures, SUBJECTS[name])


class Aside(SharpnessAware):
    """A method of somebody's own, whose direction does not show its first gradient."""

    vectors = ("aside",)

    def direction(self, oracle):
        self.memory["aside"] = oracle()
        return oracle(self.to_radius(self.weights))


@pytest.mark.parametrize("mischief", [inf_gradient, nan_gradient, nan_loss])
def test_a_failure_that_the_direction_does_not_show_skips_the_step(mischief):
    model = net()
    optimizer = Aside(BASES["adam"](model.parameters()), model)
    train(optimizer, model, 2)
    before = robustness.everything(model, optimizer)
    optimizer.step(Closure(model, 2, mischief))
    assert optimizer.memory["skipped"] == 1
    assert same(robustness.everything(model, optimizer), before)


@pytest.mark.parametrize("name", ["graphsam", "graphsam_reference"])
@pytest.mark.parametrize("bad", range(2 * EPOCH))
def test_an_epoch_is_counted_in_batches_and_a_skipped_one_counts(name, bad):
    """The exact gradient is due at each epoch's first batch; where that one is skipped, at the next."""
    model = net()
    optimizer = make(name, model, "adam")
    exact = {0, EPOCH, 2 * EPOCH} - {bad} | ({bad + 1} if bad % EPOCH == 0 else set())
    for step in range(3 * EPOCH):
        closure = Closure(model, step, nan_loss if step == bad else None)
        optimizer.step(closure)
        if step != bad:
            assert (closure.calls == 2) == (step in exact), f"step {step}"


def test_the_weights_are_perturbed_within_a_pass_and_not_after():
    """Restored by a copy: in float32 most weights would not survive an addition and a subtraction."""
    model, seen = net(), []
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.0), model, rho=1e4)
    before = weights(model)

    def closure():
        seen.append(weights(model))
        loss = model(torch.ones(2, 6)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (seen[1] - seen[0]).norm() == pytest.approx(1e4)
    assert torch.equal(weights(model), before)


# -- 7. groups, schedules, clipping, accumulation, frozen and unused parameters ----


@every_class
def test_a_loop_around_it(name):
    hold(loops.loops, SUBJECTS[name])


def grouped(model: nn.Module) -> list[dict]:
    params = list(model.parameters())
    return [{"params": params[:2], "rho": 0.2, "lr": 0.05}, {"params": params[2:]}]


def test_the_norm_is_global_and_the_radius_is_the_groups():
    model, seen = net(), []
    optimizer = SAM(torch.optim.SGD(grouped(model), lr=0.1), model, rho=0.3)
    start = weights(model)
    closure = Closure(model, 0, lambda m, losses: seen.append(weights(m) - start) or losses, at=1)
    optimizer.step(closure)
    g = torch.cat([torch.full((56,), 0.2), torch.full((27,), 0.3)])
    model.load_state_dict(net().state_dict())
    model.zero_grad()
    Closure(model, 0)()
    flat = torch.cat([p.grad.view(-1) for p in model.parameters()])
    torch.testing.assert_close(seen[0], g * flat / flat.norm(), rtol=1e-3, atol=1e-6)


# -- 10. recorded trajectories, those of every class ----


def test_a_class_is_held_to_its_recorded_runs():
    """Each run by itself: test_golden.py."""
    of = {name: golden.trajectories(SUBJECTS[name]).verdict for name in CLASSES}
    assert Verdict.FAILED not in of.values()
    without = {name for name, verdict in of.items() if verdict is Verdict.NOT_APPLICABLE}
    assert without == {"sam_every_k", "graphsam", "ausam", "msam", "sam_vi", "extrapolated_sgd"}


# -- tuning a method's own scalars must not need its code ----


@every_method
def test_defaults_are_the_yaml_and_the_constructor_alike(name):
    """A default is stated in the YAML; the class agrees with it, or the YAML is a variant with another value."""
    model = net()
    built = make(name, model)
    assert has_option(name, "rho")
    assert type(built)(BASES["sgd"](model.parameters()), model, total_steps=1, steps_per_epoch=1).memory["step"] == 0


def test_create_optimizer_takes_a_base_by_name():
    model = net()
    optimizer = create_optimizer("sam", "adamw", model, base_options={"lr": 0.5}, rho=0.2)
    assert isinstance(optimizer.base, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["rho"] == 0.2
