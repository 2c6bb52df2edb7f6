"""The contract that every method passes, over configs/optimizer/*.yaml; the points are numbered as in the docs."""

import io

import pytest
import torch
from support.methods import (
    BASES,
    EPOCH,
    METHODS,
    NEUTRAL,
    TOTAL,
    Closure,
    frozen,
    has_option,
    make,
    net,
    same,
    train,
    weights,
)
from torch import nn

from sam_bench.optim import SAM, SharpnessAware, create_optimizer

every_method = pytest.mark.parametrize("name", METHODS)
every_base = pytest.mark.parametrize("base", BASES)


# -- 1. without perturbation a method is its base ----


@every_method
@every_base
def test_rho_zero_is_the_base_bit_for_bit(name, base):
    model, bare_model = net(), net()
    optimizer = make(name, model, base, rho=0.0, **NEUTRAL.get(name, {}))
    bare = BASES[base](bare_model.parameters())
    for step in range(14):
        train(optimizer, model, 1, start=step)
        bare.zero_grad()
        Closure(bare_model, step)()
        bare.step()
        assert torch.equal(weights(model), weights(bare_model)), f"step {step}"
    # The groups hold rho besides; the state is torch's own.
    assert same(optimizer.base.state_dict()["state"], bare.state_dict()["state"])


# -- 2. limits in which one method is another ----

LIMITS = [
    ("looksam", {"k": 1}, "sam"),
    ("looksam_per_tensor", {"k": 1}, "sam"),
    ("sam_every_k", {"k": 1}, "sam"),
    ("ae_sam", {"lambda_1": -torch.inf, "lambda_2": -torch.inf}, "sam"),
    ("ae_sam", {"lambda_1": torch.inf, "lambda_2": torch.inf}, "erm"),
    ("ae_looksam", {"lambda_1": -torch.inf, "lambda_2": -torch.inf}, "sam"),
    ("ae_looksam", {"lambda_1": torch.inf, "lambda_2": torch.inf}, "erm"),
    ("vsam", {"K": 50, "M": 5}, "sam"),
    ("fsam", {"sigma": 0.0}, "sam"),
    ("gsam", {"alpha": 0.0}, "sam"),
    ("esam", {"beta": 1.0, "gamma": 1.0}, "sam"),
    ("ausam", {"alpha": 1.0}, "sam"),
    ("adasam", {}, "sam"),
    ("sam_vi", {"sigma": 0.0}, "sam"),
    ("sam_vi_mfvi", {"sigma": 0.0}, "erm"),
    ("graphsam", {"steps_per_epoch": 1, "gamma": 1.0}, "sam"),
]


@pytest.mark.parametrize(("name", "options", "limit"), LIMITS)
@every_base
def test_limits(name, options, limit, base):
    model, other_model = net(), net()
    optimizer = make(name, model, base, rho=0.1, **options)
    other = make(limit, other_model, base, rho=0.1)
    train(optimizer, model, 12)
    train(other, other_model, 12)
    # The stabiliser of a norm differs between the codes that LookSAM and ESAM follow, and nothing else does.
    torch.testing.assert_close(weights(model), weights(other_model), rtol=0, atol=1e-6 if "look" in name else 1e-7)


# -- 3. cost ----


def cost(name: str, optimizer, steps: int) -> float | None:
    """Gradient evaluations of so many steps by the paper's formula; None where the share is only measured."""
    second = {
        "erm": 0, "msam": 0, "extrapolated_sgd": 0, "extrapolated_sgd_noise": 0, "sam_vi_mfvi": 0,
        "ae_sam": optimizer.memory["sampled"], "ae_looksam": optimizer.memory["sampled"],
        "vsam": optimizer.memory["sampled"],
    }  # fmt: skip
    if "looksam" in name or name == "sam_every_k":
        second.setdefault(name, -(-steps // 5))
    if name.startswith("graphsam"):
        second[name] = -(-steps // EPOCH)
    if name == "ausam":
        return 2 * EPOCH + 2 * (6 / 12) * (steps - EPOCH)
    if name == "esam":
        return steps * (1 + 1 / 3 + 5 / 12)
    return steps + second.get(name, steps)


@every_method
def test_pass_counts_are_the_cost(name):
    model = net()
    optimizer = make(name, model)
    closures = train(optimizer, model, 11)
    assert optimizer.memory["grad_evals"] == pytest.approx(cost(name, optimizer, 11))
    assert optimizer.memory["step"] == 11
    assert 0 <= optimizer.sam_fraction <= 1
    if name not in ("ausam", "esam"):
        assert sum(closure.calls for closure in closures) == optimizer.memory["grad_evals"]
        assert optimizer.memory["sampled"] == sum(closure.calls > 1 for closure in closures)


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
@every_base
def test_resume_is_a_no_op(name, base):
    """Saved after each of the first steps and continued, bit for bit the uninterrupted run."""
    model = net()
    optimizer = make(name, model, base)
    saved = []
    for step in range(10):
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        saved.append(file)
        train(optimizer, model, 1, start=step)
    for step, file in enumerate(saved):
        file.seek(0)
        state = torch.load(file, weights_only=True)
        again = net(seed=9)
        resumed = make(name, again, base)
        again.load_state_dict(state["model"])
        resumed.load_state_dict(state["optimizer"])
        train(resumed, again, 10 - step, start=step)
        assert torch.equal(weights(again), weights(model)), f"resumed at step {step}"
        assert same(resumed.state_dict(), optimizer.state_dict()), f"resumed at step {step}"


@every_method
def test_a_loaded_state_is_a_copy(name):
    model, other = net(), net()
    optimizer, second = make(name, model, "adam"), make(name, other, "adam")
    train(optimizer, model, 5)
    state = optimizer.state_dict()
    second.load_state_dict(state)
    kept = frozen(second.memory)
    train(optimizer, model, 3, start=5)
    optimizer.zero_grad(set_to_none=False)
    assert same(second.memory, kept)
    for entry in state["memory"].values():
        for tensor in entry if isinstance(entry, list) else [entry]:
            if isinstance(tensor, torch.Tensor):
                tensor.zero_()
    assert same(second.memory, kept)


# -- 6. failures leave everything as it was ----


class Interrupted(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


def raises(model, losses):
    raise Interrupted


def nan_loss(model, losses):
    return losses * torch.nan


def inf_gradient(model, losses):
    next(iter(model.parameters())).grad.view(-1)[0] = torch.inf
    return losses


def nan_gradient(model, losses):
    for p in model.parameters():
        p.grad.fill_(torch.nan)
    return losses


def no_gradient(model, losses):
    for p in model.parameters():
        p.grad = None
    return losses


def everything(model, optimizer) -> dict:
    memory = {key: value for key, value in optimizer.memory.items() if key != "skipped"}
    return frozen({"model": model.state_dict(), "base": optimizer.base.state_dict(), "memory": memory})


MISCHIEF = [(raises, "sgd"), (nan_loss, "momentum"), (inf_gradient, "adam"), (nan_gradient, "adamw"),
            (no_gradient, "adam")]  # fmt: skip


@every_method
@pytest.mark.parametrize(("mischief", "base"), MISCHIEF)
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("start", [0, 4])
def test_a_failed_pass_moves_nothing(name, mischief, base, at, start):
    if name == "esam" and at == 1 and "gradient" in mischief.__name__:
        at = 2  # its second call is a forward pass alone
    model = net(norm=True)
    optimizer = make(name, model, base)
    train(optimizer, model, start)
    closure = Closure(model, start, mischief, at)
    before, where = everything(model, optimizer), [p.data_ptr() for p in model.parameters()]
    failed = False
    try:
        optimizer.step(closure, samples=closure.samples)
    except (Interrupted, RuntimeError):
        failed = True
    came = closure.calls > at or failed
    if not came:
        return  # this step had no such pass
    assert failed == (mischief in (raises, no_gradient))
    assert same(everything(model, optimizer), before)
    assert optimizer.memory["skipped"] == (not failed)
    assert [p.data_ptr() for p in model.parameters()] == where


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
    before = everything(model, optimizer)
    optimizer.step(Closure(model, 2, mischief))
    assert optimizer.memory["skipped"] == 1
    assert same(everything(model, optimizer), before)


@every_method
def test_training_goes_on_after_a_skipped_step(name):
    model = net()
    optimizer = make(name, model, "adam")
    for step in range(12):
        closure = Closure(model, step, nan_loss if step % 4 == 0 else None)
        optimizer.step(closure, samples=closure.samples)
    assert optimizer.memory["skipped"] == 3
    assert optimizer.memory["step"] == 9
    assert weights(model).isfinite().all()


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("graphsam")])
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


@every_method
def test_weights_keep_their_storage_and_gradients_never_reach_the_memory(name):
    model = net()
    optimizer = make(name, model)
    where = [p.data_ptr() for p in model.parameters()]
    for step in range(8):
        train(optimizer, model, 1, start=step)
        kept = frozen(optimizer.memory)
        optimizer.zero_grad(set_to_none=False)
        assert same(optimizer.memory, kept)
    assert [p.data_ptr() for p in model.parameters()] == where


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


def grouped(model: nn.Module) -> list[dict]:
    params = list(model.parameters())
    return [{"params": params[:2], "rho": 0.2, "lr": 0.05}, {"params": params[2:]}]


@every_method
@every_base
def test_groups_with_their_own_rho(name, base):
    model = net()
    kind = type(BASES[base](model.parameters()))
    optimizer = make(name, model, kind(grouped(model), lr=0.1))
    train(optimizer, model, 8)
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, optimizer.rho]
    assert weights(model).isfinite().all()


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


@every_method
def test_a_torch_schedule_drives_the_base(name):
    model, other = net(), net()
    optimizer, second = make(name, model), make(name, other)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    for step in range(8):
        train(optimizer, model, 1, start=step)
        schedule.step()
        second.param_groups[0]["lr"] = 0.1 * (1 + torch.cos(torch.tensor(torch.pi * step / 8)).item()) / 2
        train(second, other, 1, start=step)
    assert optimizer.base.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(weights(model), weights(other))


@every_method
def test_clipping_acts_on_the_direction_as_torch_does(name):
    model, bare_model = net(), net()
    optimizer = make(name, model, rho=0.0, clip_norm=0.05, **NEUTRAL.get(name, {}))
    bare = BASES["momentum"](bare_model.parameters())
    for step in range(6):
        train(optimizer, model, 1, start=step)
        bare.zero_grad()
        Closure(bare_model, step)()
        nn.utils.clip_grad_norm_(bare_model.parameters(), 0.05)
        bare.step()
    assert torch.equal(weights(model), weights(bare_model))


class Micro(Closure):
    """The same batch in three micro-batches."""

    def __call__(self, index=None, backward=True):
        rows = torch.arange(len(self.x)) if index is None else index
        parts = []
        for part in rows.chunk(3):
            losses = nn.functional.cross_entropy(self.model(self.x[part]), self.y[part], reduction="none")
            if backward:
                (losses.sum() / len(rows)).backward()
            parts.append(losses.detach())
        self.calls += 1
        return torch.cat(parts)


@every_method
def test_accumulation_equals_the_whole_batch(name):
    model, other = net(dtype=torch.float64), net(dtype=torch.float64)
    optimizer, second = make(name, model), make(name, other)
    for step in range(8):
        for cls, opt, m in ((Closure, optimizer, model), (Micro, second, other)):
            closure = cls(m, step, dtype=torch.float64)
            opt.step(closure, samples=closure.samples)
    torch.testing.assert_close(weights(model), weights(other), rtol=0, atol=1e-5)


class Partial(nn.Module):
    """A model with a frozen layer, an unused one, and one that is used in every other pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frozen, self.used = nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 3)
        self.unused, self.sometimes = nn.Linear(3, 3), nn.Linear(6, 3)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        y = self.used(self.frozen(x))
        return y + self.sometimes(x) if self.passes % 2 else y


@every_method
@every_base
def test_parameters_without_gradient_are_left_alone(name, base):
    model = Partial()
    optimizer = make(name, model, base)
    before = frozen(model.state_dict())
    train(optimizer, model, 8)
    assert optimizer.memory["skipped"] == 0
    after = model.state_dict()
    for key in before:
        if key.startswith("sometimes"):
            continue  # SAM's second pass never has it, MSAM's only pass always has
        assert torch.equal(before[key], after[key]) == key.startswith(("frozen", "unused")), key
    assert all(p.grad is None for p in [*model.frozen.parameters(), *model.unused.parameters()])
    assert not any(p in optimizer.state for p in model.unused.parameters())


@every_method
def test_no_gradient_at_all_names_the_parameters(name):
    model = net()
    optimizer = make(name, model)

    def closure(index=None, backward=True):
        return torch.zeros(12)

    with pytest.raises(RuntimeError, match=r"no parameter received a gradient.*0\.weight, 0\.bias"):
        optimizer.step(closure, samples=torch.arange(12))


@every_method
def test_parameters_may_be_added(name):
    model = net()
    extra = nn.Linear(3, 3)
    optimizer = make(name, model)
    train(optimizer, model, 6)
    whole = nn.Sequential(*model, extra)
    optimizer.model = whole
    optimizer.add_param_group({"params": list(extra.parameters()), "lr": 0.01})
    train(optimizer, whole, 8, start=6)
    assert optimizer.memory["step"] == 14
    assert weights(whole).isfinite().all()
    assert optimizer.param_groups[1]["rho"] == optimizer.rho


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
