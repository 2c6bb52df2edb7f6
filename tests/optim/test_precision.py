"""Point 8 and its neighbours: fp16 with loss scaling, bf16, weights in bf16, memory formats, compiled models."""

import io
import warnings

import pytest
import torch
from support.methods import BASES, CLASSES, METHODS, SUBJECTS, Closure, make, net, train, weights
from torch import nn
from torch._dynamo.testing import CompileCounter

from sam_bench.contract import Verdict, precision
from sam_bench.contract.precision import scaler
from sam_bench.optim import SAM

every_method = pytest.mark.parametrize("name", METHODS)
every_class = pytest.mark.parametrize("name", CLASSES)


@every_class
def test_half_precision(name):
    """Autocast, a loss scale, an overflow in either pass, weights in bf16."""
    result = precision.precision(SUBJECTS[name])
    assert result.verdict is Verdict.PASSED, f"{result.seen}. {result.advice}"


def test_autocast_around_a_step_sees_the_perturbed_weights():
    """torch converts the weights once in a context: without care both passes compute with the same ones."""
    model, gradients = net(), []

    def closure():
        loss = Closure(model, 0)().mean()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        return loss

    optimizer = make("sam", model, rho=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        optimizer.step(closure)
        after = model(Closure(model, 0).x)
    assert (gradients[1] - gradients[0]).norm() > 0.01
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(after, model(Closure(model, 0).x))


def test_finite_losses_whose_sum_overflows_fp16_are_finite():
    model = net()
    optimizer = make("sam", model)

    def closure():
        Closure(model, 0)()
        return torch.full((4096,), 100.0, dtype=torch.float16)

    optimizer.step(closure)
    assert (optimizer.memory["step"], optimizer.memory["skipped"]) == (1, 0)


def test_the_scale_moves_as_torch_moves_it():
    """ERM under a scaler against torch's own step and update, overflows included."""
    model, bare_model = net(), net()
    ours, theirs = scaler(), scaler()
    optimizer, bare = make("erm", model, "adam", scaler=ours), BASES["adam"](bare_model.parameters())
    for step in range(20):
        factor = 1e39 if step in (4, 5, 11) else 1.0
        optimizer.step(Closure(model, step, scaler=ours, factor=factor))
        bare.zero_grad()
        Closure(bare_model, step, scaler=theirs, factor=factor)()
        theirs.step(bare)
        theirs.update()
        assert ours.get_scale() == theirs.get_scale(), step
    assert torch.equal(weights(model), weights(bare_model))


def test_the_scale_survives_a_resume():
    model, ours = net(), scaler()
    optimizer = make("sam", model, "adam", scaler=ours)
    for step in range(4):
        optimizer.step(Closure(model, step, scaler=ours))
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
        optimizer.step(Closure(model, step, scaler=ours))
        second.step(Closure(again, step, scaler=second_scaler))
    assert torch.equal(weights(model), weights(again))
    assert ours.get_scale() == second_scaler.get_scale()


def test_a_disabled_scaler_is_none():
    model = net()
    off = torch.amp.GradScaler("cpu", enabled=False)
    optimizer = make("sam", model, scaler=off)
    optimizer.step(Closure(model, 0, scaler=off))
    assert optimizer.memory["step"] == 1


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


@every_class
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
        closure = Closure(model, step, scaler=ours, device="cuda")
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
