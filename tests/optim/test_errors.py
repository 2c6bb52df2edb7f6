"""Mistakes that people make with these optimizers, and what they are told."""

import functools
import inspect
import io
import warnings

import numpy as np
import pytest
import torch
from support.methods import Closure, make, net, weights

from sam_bench.optim import (
    AESAM,
    ASAM,
    AUSAM,
    ERM,
    FSAM,
    MSAM,
    SAM,
    VSAM,
    GraphSAM,
    GraphSAMReference,
    LookSAM,
    create_optimizer,
)
from sam_bench.optim.arguments import refuse_lonely_scaler

SGD = torch.optim.SGD


def sgd(model):
    return SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda m: SAM(sgd(m), list(m.parameters())), TypeError, r"model must be the torch.*not a list.*BatchNorm"),
        (lambda m: SAM(sgd(m), m.parameters()), TypeError, "model must be the torch module"),
        (lambda m: SAM(sgd(m), net()), ValueError, "no parameter of this model"),
        (lambda m: SAM(list(m.parameters()), m), TypeError, "must be a torch optimizer.*not a list"),
        (lambda m: SAM(m.parameters(), SGD), TypeError, r"SAM\(SGD\(model\.parameters\(\), lr=\.\.\.\), model\)"),
        (lambda m: SAM(m.parameters(), SGD, rho=0.05, lr=0.2, momentum=0.9), TypeError, r"0\.2, momentum=0\.9\), m"),
        (lambda m: LookSAM(m.parameters(), base_optimizer=SGD, lr=0.2), TypeError, r"LookSAM\(SGD\("),
        (lambda m: ERM(SGD, m), TypeError, r"ERM\(SGD\("),
        (lambda m: SAM(sgd(m), m, rho="0.05"), TypeError, r"rho must be a number.*'0\.05'.*write rho=0\.05"),
        (lambda m: SAM(sgd(m), m, rho=None), TypeError, "rho must be a number"),
        (lambda m: SAM(sgd(m), m, rho=True), TypeError, "rho must be a number"),
        (lambda m: SAM(SGD([{"params": m.parameters(), "rho": "1"}], lr=0.1), m), TypeError, "rho must.*param group 0"),
        (lambda m: LookSAM(sgd(m), m, k=2.5), ValueError, "k must be at least 1 and a whole number, got 2.5"),
        (lambda m: create_optimizer("sam_every_k", "sgd", m, k="5"), ValueError, "k must be at least 1"),
        (lambda m: GraphSAM(sgd(m), m, steps_per_epoch=2.5), ValueError, "steps_per_epoch must be .* a whole number"),
        (lambda m: SAM(sgd(m), m, clip_norm=-1.0), ValueError, "clip_norm must be a number above 0"),
        (lambda m: SAM(sgd(m), m, clip_norm=float("nan")), ValueError, "clip_norm must be a number above 0"),
        (lambda m: SAM(sgd(m), m, seed=-1), ValueError, "seed must be an integer >= 0"),
        (lambda m: LookSAM(sgd(m), m, alpha="0.7"), ValueError, "alpha must be a number, got '0.7'"),
        (lambda m: LookSAM(sgd(m), m, alpha=float("nan")), ValueError, "alpha must be a number, got nan"),
        (lambda m: AESAM(sgd(m), m, lambda_1="1", total_steps=9), ValueError, "lambda_1 must be a number"),
        (lambda m: ASAM(sgd(m), m, eta=-1.0), ValueError, "eta must be a number >= 0"),
        (lambda m: FSAM(sgd(m), m, lmbda=1.5), ValueError, r"lmbda must be a number in \[0, 1\]"),
        (lambda m: MSAM(sgd(m), m, momentum="0.9"), ValueError, "momentum must be a number"),
        (lambda m: GraphSAM(sgd(m), m, beta="0.99", steps_per_epoch=2), ValueError, "beta must be a number"),
        (lambda m: GraphSAMReference(sgd(m), m, radius=-1.0, steps_per_epoch=2), ValueError, "radius must be"),
        (lambda m: VSAM(sgd(m), m, a1="0.13", K=4, M=2, last=2, steps_per_epoch=1), ValueError, "a1 must be a number"),
        (lambda m: SAM(torch.optim.LBFGS(m.parameters()), m), TypeError, "LBFGS calls the closure itself"),
        (lambda m: SAM(torch.optim.SparseAdam(list(m.parameters())), m), TypeError, "SparseAdam needs sparse"),
        (lambda m: SAM(sgd(m), m, scaler=torch.amp.GradScaler("cpu"), check_finite=False), ValueError, "scaler needs"),
        (lambda m: create_optimizer("looksam", "sgd", m, when=None), TypeError, "looksam has no option 'when'"),
        (lambda m: SAM(sgd(m), m).add_param_group({"params": m.parameters(), "rho": -1.0}), ValueError, "group 1"),
    ],
)  # fmt: skip
def test_a_wrong_form_is_told_the_right_one(build, kind, message):
    with pytest.raises(kind, match=f"(?s){message}"):
        build(net())


@pytest.mark.parametrize("build", [
    lambda m: LookSAM(sgd(m), m, rho=np.float64(0.1), k=np.int64(3), alpha=np.float32(0.5)),
    lambda m: GraphSAM(sgd(m), m, steps_per_epoch=np.int64(4), decay_epochs=np.int64(2)),
    lambda m: AESAM(sgd(m), m, total_steps=np.int64(9), delta=np.float64(0.9), mu_0=np.float64(0.0)),
])  # fmt: skip
def test_numbers_of_numpy_are_numbers_also_in_a_checkpoint(build):
    model = net()
    optimizer = build(model)
    optimizer.step(Closure(model, 0))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    build(net()).load_state_dict(torch.load(file, weights_only=True))


def test_the_right_bases_are_bases():
    for base in (torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adafactor, torch.optim.NAdam):
        model = net()
        LookSAM(base(model.parameters()), model).step(Closure(model, 0))


# -- what a closure returns ----


@pytest.mark.parametrize(("wrong", "named"), [((1, 2), "a tuple"), ({"loss": 1}, "a dict"), (None, "None")])
def test_a_closure_that_returns_no_loss_is_told_so(wrong, named):
    model = net()

    def closure():
        Closure(model, 0)()
        return wrong

    with pytest.raises(TypeError, match=f"the closure returned {named}: let it return the loss"):
        SAM(sgd(model), model).step(closure)


def test_m_sharpness_needs_samples_and_weighs_its_pieces():
    model = net()
    optimizer = SAM(sgd(model), model, m_sharpness=5)
    batch = Closure(model, 0)
    with pytest.raises(ValueError, match=r"pass step\(closure, samples=\.\.\.\)"):
        optimizer.step(batch)
    mean = Closure(model, 0)().mean()
    optimizer.zero_grad()
    loss = optimizer.step(lambda index: batch(index).mean(), samples=list(range(len(batch.x))))
    assert loss.item() == pytest.approx(mean.item(), rel=1e-6)


def test_ausam_compares_the_length_of_samples():
    model = net()
    optimizer = AUSAM(sgd(model), model, steps_per_epoch=2)
    with pytest.raises(ValueError, match="samples has 3 positions, and the closure returned"):
        optimizer.step(Closure(model, 0), samples=torch.arange(3))


# -- a loss scale that the optimizer does not know ----


class Accelerator:
    """As Accelerate has it: a backward of its own, which scales."""

    def __init__(self, scaler):
        self.scaler = scaler

    def backward(self, loss):
        self.scaler.scale(loss).backward()


def scaled(model, scaler, through):
    x = torch.ones(2, 6)
    if through == "accelerate":
        accelerator = Accelerator(scaler)

        def closure():
            loss = model(x).square().mean()
            accelerator.backward(loss)
            return loss
    else:

        def closure():
            loss = model(x).square().mean()
            scaler.scale(loss).backward()
            return loss

    return {"partial": functools.partial(closure), "list": [closure, closure]}.get(through, closure)


@pytest.mark.parametrize("through", ["plain", "partial", "list", "accelerate"])
def test_a_scaled_loss_needs_the_scaler(through):
    model = net()
    before = weights(model)
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match=r"scales its loss with.*scaler=") as told:
        make("sam", model).step(scaled(model, scaler, through))
    assert ("accelerator.scaler" in str(told.value)) == (through == "accelerate")
    assert torch.equal(weights(model), before)
    optimizer = make("sam", model, scaler=scaler)
    optimizer.step(scaled(model, scaler, through))
    assert optimizer.memory["step"] == 1


@pytest.mark.parametrize("through", ["plain", "accelerate"])
def test_a_scaler_that_is_switched_off_is_no_alarm(through):
    model = net()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    optimizer = make("sam", model)
    optimizer.step(scaled(model, scaler, through))
    assert optimizer.memory["step"] == 1


def test_the_scale_is_read_with_the_verdict(monkeypatch):
    """Reading it by itself would wait for the device once more."""
    model, scaler = net(), torch.amp.GradScaler("cpu")
    optimizer = make("sam", model, scaler=scaler)
    optimizer.step(scaled(model, scaler, "plain"))
    reads, read = [], scaler.get_scale
    monkeypatch.setattr(scaler, "get_scale", lambda: reads.append(1) or read())
    optimizer.step(scaled(model, scaler, "plain"))
    assert not reads


class Trainer:
    """Holds the scaler, as most people's trainers do."""

    def __init__(self):
        self.model, self.scaler = net(), torch.amp.GradScaler("cpu")

    def closure(self):
        loss = self.model(torch.ones(2, 6)).square().mean()
        self.scaler.scale(loss).backward()
        return loss


def test_a_scaler_that_an_object_holds_is_found():
    trainer = Trainer()
    with pytest.raises(ValueError, match=r"scales its loss with self\.scaler"):
        SAM(sgd(trainer.model), trainer.model).step(trainer.closure)

    def own():
        loss = trainer.model(torch.ones(2, 6)).square().mean()
        trainer.scaler.scale(loss).backward()
        return loss

    with pytest.raises(ValueError, match=r"scales its loss with trainer\.scaler"):
        SAM(sgd(trainer.model), trainer.model).step(own)


def test_a_closure_without_python_code_is_no_error():
    """A method of an object in C has an owner and no code that could be read."""
    refuse_lonely_scaler("SAM", [torch.amp.GradScaler("cpu")].__len__)
    refuse_lonely_scaler("SAM", Closure(net(), 0))


def test_another_scaler_and_a_variable_without_a_value_are_no_alarm():
    model = net()
    trainer = Trainer()  # has a scaler that this closure does not use

    class Standard:
        def scaler(self, x):
            return x / 2

    data = Standard()

    def train():
        def closure():
            nonlocal output
            output = model(data.scaler(torch.ones(2, 6)))
            loss = output.square().mean() + 0 * len(vars(trainer))
            loss.backward()
            return loss

        optimizer = SAM(sgd(model), model)
        optimizer.step(closure)
        output = None
        return optimizer

    assert train().memory["step"] == 1


# -- nothing is finite ----


def nan(model, losses):
    return losses * torch.nan


def skip(optimizer, model, steps):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(steps):
            optimizer.step(Closure(model, step, nan))
    return [w for w in caught if "in a row" in str(w.message)]


def test_steps_skipped_in_a_row_are_warned_of_once():
    model = net()
    optimizer = make("sam", model)
    warned = skip(optimizer, model, 9)
    assert [str(w.message)[:29] for w in warned] == ["SAM skipped 5 steps in a row:"]
    assert warned[0].filename == __file__
    optimizer.step(Closure(model, 0))
    assert not skip(optimizer, model, 4)
    assert len(skip(optimizer, model, 1)) == 1  # the fifth
    assert optimizer.memory["skipped"] == 14


def test_a_loss_scale_has_more_steps_to_find_its_size():
    model = net()
    optimizer = make("sam", model, scaler=torch.amp.GradScaler("cpu"))
    scaler = optimizer.scaler
    scaler.scale(torch.zeros(1))
    assert not skip(optimizer, model, 24)
    assert len(skip(optimizer, model, 1)) == 1


def test_every_constructor_shows_its_own_signature():
    assert "clip_norm" in inspect.signature(ERM).parameters
    assert "k" in inspect.signature(LookSAM).parameters
