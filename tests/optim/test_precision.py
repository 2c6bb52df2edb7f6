"""Point 8 and its neighbours: fp16 with loss scaling, bf16, weights in bf16, memory formats, compiled models."""

import io
import warnings

import pytest
import torch
from support.methods import BASES, METHODS, NEUTRAL, Closure, frozen, make, net, same, train, weights
from torch import nn
from torch._dynamo.testing import CompileCounter

from sam_bench.optim import SAM

every_method = pytest.mark.parametrize("name", METHODS)
SCALE = {"init_scale": 2.0**4, "growth_interval": 3}


class Scaled(Closure):
    """The closure of fp16 training: the scaled loss is differentiated."""

    def __init__(self, scaler, *args, factor: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.scaler, self.factor = scaler, factor

    def __call__(self, index=None, backward=True):
        x, y = (self.x, self.y) if index is None else (self.x[index], self.y[index])
        losses = nn.functional.cross_entropy(self.model(x).float(), y, reduction="none")
        if backward:
            # A factor that overflows the gradient in one pass, and not the loss: what fp16 does.
            self.scaler.scale(losses.mean() * (self.factor if self.calls == self.at else 1.0)).backward()
        self.calls += 1
        return losses.detach()


def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", **SCALE)


@every_method
def test_a_power_of_two_as_scale_changes_nothing(name):
    model, other = net(), net()
    ours = scaler()
    optimizer, plain = make(name, model, "adam", scaler=ours), make(name, other, "adam")
    for step in range(10):
        closure = Scaled(ours, model, step)
        optimizer.step(closure, samples=closure.samples)
    train(plain, other, 10)
    assert torch.equal(weights(model), weights(other))
    assert ours.get_scale() == 2.0**4 * 2**3  # it grew every third step


@every_method
@pytest.mark.parametrize("at", [0, 1])
def test_an_overflow_in_either_pass_skips_the_step(name, at):
    model = net(norm=True)
    ours = scaler()
    optimizer = make(name, model, "adam", scaler=ours)
    at += name == "esam" and at == 1  # its second call is a forward pass alone
    for step in range(5):
        closure = Scaled(ours, model, step)
        optimizer.step(closure, samples=closure.samples)
    ignored = ("skipped", "growth")
    before = frozen([model.state_dict(), optimizer.base.state_dict()])
    memory = {k: v for k, v in frozen(optimizer.memory).items() if k not in ignored}
    scale = ours.get_scale()
    closure = Scaled(ours, model, 5, factor=1e39, at=at)
    optimizer.step(closure, samples=closure.samples)
    if closure.calls <= at:
        assert optimizer.memory["skipped"] == 0  # this step had no such pass
        return
    assert same([model.state_dict(), optimizer.base.state_dict()], before)
    assert same({k: v for k, v in optimizer.memory.items() if k not in ignored}, memory)
    assert optimizer.memory["skipped"] == 1
    assert ours.get_scale() == scale / 2


def test_the_scale_moves_as_torch_moves_it():
    """ERM under a scaler against torch's own step and update, overflows included."""
    model, bare_model = net(), net()
    ours, theirs = scaler(), scaler()
    optimizer, bare = make("erm", model, "adam", scaler=ours), BASES["adam"](bare_model.parameters())
    for step in range(20):
        factor = 1e39 if step in (4, 5, 11) else 1.0
        optimizer.step(Scaled(ours, model, step, factor=factor))
        bare.zero_grad()
        Scaled(theirs, bare_model, step, factor=factor)()
        theirs.step(bare)
        theirs.update()
        assert ours.get_scale() == theirs.get_scale(), step
    assert torch.equal(weights(model), weights(bare_model))


def test_the_scale_survives_a_resume():
    model, ours = net(), scaler()
    optimizer = make("sam", model, "adam", scaler=ours)
    for step in range(4):
        optimizer.step(Scaled(ours, model, step))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), ours.state_dict()], file)
    file.seek(0)
    weights_then, state, scale = torch.load(file, weights_only=True)
    again, second_scaler = net(1), scaler()
    again.load_state_dict(weights_then)
    second = make("sam", again, "adam", scaler=second_scaler)
    second.load_state_dict(state)
    second_scaler.load_state_dict(scale)
    for step in range(4, 9):
        optimizer.step(Scaled(ours, model, step))
        second.step(Scaled(second_scaler, again, step))
    assert torch.equal(weights(model), weights(again))
    assert ours.get_scale() == second_scaler.get_scale()


def test_a_disabled_scaler_is_none():
    model = net()
    off = torch.amp.GradScaler("cpu", enabled=False)
    optimizer = make("sam", model, scaler=off)
    optimizer.step(Scaled(off, model, 0))
    assert optimizer.memory["step"] == 1


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(name, dtype):
    model, ours = net(), torch.amp.GradScaler("cpu", init_scale=256.0, enabled=dtype is torch.float16)
    optimizer = make(name, model, "adam", scaler=ours)
    for step in range(8):
        closure = Scaled(ours, model, step)
        with torch.autocast("cpu", dtype):
            optimizer.step(closure, samples=closure.samples)
    assert weights(model).isfinite().all()
    assert weights(model).dtype == torch.float32
    assert optimizer.memory["skipped"] == 0


@every_method
@pytest.mark.parametrize("base", ["momentum", "adam"])
def test_weights_in_bf16(name, base):
    """It runs, the averages are kept in float32, and without perturbation it is the base."""
    model, bare_model = net(dtype=torch.bfloat16), net(dtype=torch.bfloat16)
    optimizer = make(name, model, base)
    train(optimizer, model, 8, dtype=torch.bfloat16)
    assert weights(model).isfinite().all()
    kept = [part for name in optimizer.vectors if name in optimizer.memory for part in optimizer.memory[name].dense()]
    assert {part.dtype for part in kept} <= {torch.float32}
    model = net(dtype=torch.bfloat16)
    neutral = make(name, model, base, rho=0.0, **NEUTRAL.get(name, {}))
    bare = BASES[base](bare_model.parameters())
    train(neutral, model, 5, dtype=torch.bfloat16)
    for step in range(5):
        bare.zero_grad()
        Closure(bare_model, step, dtype=torch.bfloat16)()
        bare.step()
    assert torch.equal(weights(model), weights(bare_model))


def convolutions(channels_last: bool) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )
    return model.to(memory_format=torch.channels_last) if channels_last else model


class Images(Closure):
    def __init__(self, model, step):
        super().__init__(model, step)
        self.x = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        if not model[0].weight.is_contiguous():
            self.x = self.x.contiguous(memory_format=torch.channels_last)


@every_method
def test_channels_last(name):
    """Same training, and the parameters keep their strides; gradients get them too."""
    results = []
    for channels_last in (False, True):
        model = convolutions(channels_last)
        strides = [p.stride() for p in model.parameters()]
        optimizer = make(name, model)
        for step in range(5):
            closure = Images(model, step)
            optimizer.step(closure, samples=closure.samples)
        assert [p.stride() for p in model.parameters()] == strides
        assert [p.grad.stride() for p in model.parameters()] == strides
        results.append(weights(model))
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["erm", "sam", "looksam", "graphsam", "gsam", "asam"])
def test_a_compiled_model(name):
    """The same training as uncompiled, without a graph for each pass."""
    torch._dynamo.reset()
    model, plain = net(norm=True), net(norm=True)
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter)
    optimizer, reference = make(name, compiled), make(name, plain)
    for step in range(6):
        closure = Closure(compiled, step)
        optimizer.step(closure, samples=closure.samples)
    train(reference, plain, 6)
    assert torch.equal(weights(model), weights(plain))
    assert counter.frame_count == 1


@pytest.mark.gpu
@every_method
@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp16"])
def test_on_a_gpu(name, kind):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    model = net(norm=True).cuda()
    ours = torch.amp.GradScaler("cuda", init_scale=256.0, enabled=kind == "fp16")
    optimizer = make(name, model, "adam", scaler=ours, same_dropout=True)
    for step in range(8):
        closure = Scaled(ours, model, step, device="cuda")
        with torch.autocast("cuda", dtype, enabled=kind != "fp32"):
            optimizer.step(closure, samples=closure.samples)
    assert weights(model).isfinite().all()
    assert optimizer.memory["skipped"] == 0
    assert model[1].num_batches_tracked == 8


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["erm", "sam", "asam", "gsam", "fsam", "looksam", "graphsam", "msam"])
def test_one_wait_per_step_on_a_gpu(name):
    """torch reports each synchronisation; a step has one, for the test of finiteness, and none without it."""
    model = net().cuda()
    for check_finite, waits in ((True, 1), (False, 0)):
        optimizer = make(name, model, "adam", check_finite=check_finite)
        closures = [Closure(model, step, device="cuda") for step in range(8)]
        for closure in closures[:4]:
            optimizer.step(closure)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            for closure in closures[4:]:
                optimizer.step(closure)
            torch.cuda.set_sync_debug_mode("default")
        assert sum("synchroniz" in str(w.message) for w in seen) == waits * 4


def test_a_perturbation_below_the_precision_of_the_weights_is_lost():
    """What the page says of weights in bf16."""
    model, seen = nn.Linear(1000, 1, bias=False, dtype=torch.bfloat16), []
    nn.init.ones_(model.weight)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model, rho=0.01)

    def closure():
        seen.append(model.weight.detach().clone())
        loss = model(torch.ones(1, 1000, dtype=torch.bfloat16)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(seen[0], seen[1])
