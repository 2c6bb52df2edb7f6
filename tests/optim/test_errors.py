"""Mistakes that people make with these optimizers, and what they are told."""

import functools
import inspect
import warnings

import numpy as np
import pytest
import torch
from support.methods import Closure, make, net, weights

from sam_bench.optim import ERM, SAM, GraphSAM, LookSAM, create_optimizer

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
    ],
)  # fmt: skip
def test_a_wrong_form_is_told_the_right_one(build, kind, message):
    with pytest.raises(kind, match=f"(?s){message}"):
        build(net())


def test_numbers_of_numpy_are_numbers():
    model = net()
    optimizer = LookSAM(sgd(model), model, rho=np.float32(0.1), k=np.int64(3))
    optimizer.step(Closure(model, 0))


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
    optimizer.check_finite = False
    optimizer.step(scaled(model, scaler, "plain"))
    assert not reads


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
