"""Parameter groups, rho and states: what users do with them between steps."""

import warnings

import pytest
import torch
from support.methods import Closure, net

from sam_bench.optim import AUSAM, GSAM, SAM, SAMVI, VSAM, GraphSAMReference, LookSAM

SGD = torch.optim.SGD


def sgd(model):
    return SGD(model.parameters(), lr=0.1)


def test_rho_is_that_of_the_groups():
    model = net()
    optimizer = SAM(sgd(model), model, rho=0.1)
    optimizer.rho = 0.3
    assert optimizer.rhos() == [0.3]
    second = net()
    other = SAM(sgd(second), second)
    other.load_state_dict(optimizer.state_dict())
    assert other.rho == 0.3
    with pytest.raises(ValueError, match="rho must be a finite number"):
        optimizer.rho = -1.0


def test_a_state_that_only_the_base_got_lacks_nothing():
    model, source = net(), net()
    bare = torch.optim.Adam(source.parameters())
    Closure(source, 0)()
    bare.step()
    for method, options in ((SAM, {}), (GSAM, {"rho_min": 0.01})):
        optimizer = method(torch.optim.Adam(model.parameters()), model, rho=0.07, **options)
        optimizer.base.load_state_dict(bare.state_dict())
        optimizer.step(Closure(model, 0))
        assert optimizer.rho == 0.07


def test_a_checkpoint_between_a_new_group_and_the_next_step_can_be_loaded():
    model = net()
    first, *others = model.parameters()
    optimizer = LookSAM(SGD([first], lr=0.1), model)
    optimizer.step(Closure(model, 0))
    optimizer.zero_grad()
    optimizer.add_param_group({"params": others})
    again = LookSAM(SGD([{"params": [first]}, {"params": others}], lr=0.1), model)
    again.load_state_dict(optimizer.state_dict())
    again.step(Closure(model, 1))


@pytest.mark.parametrize(("method", "theirs", "ours", "said"), [
    (VSAM, {"K": 4}, {"K": 6}, "K=4: build VSAM with"),
    (AUSAM, {"steps_per_epoch": 4}, {"steps_per_epoch": 6}, "steps_per_epoch=4: build AUSAM with"),
    (GraphSAMReference, {}, {"zeroed_norm": False}, "zeroed_norm=True: build GraphSAMReference with"),
])  # fmt: skip
def test_a_state_of_other_options_is_refused_when_it_is_loaded(method, theirs, ours, said):
    common = {"steps_per_epoch": 4} | ({"M": 2, "last": 2} if method is VSAM else {})
    first, second = (method(sgd(model), model, **common | own) for model, own in ((net(), theirs), (net(), ours)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(3):
            first.step(Closure(first.model, step))
    with pytest.raises(ValueError, match=f"this state was made with {said} the same options"):
        second.load_state_dict(first.state_dict())
    assert second.memory["step"] == 0


def test_a_model_that_moves_takes_the_windows_of_vsam_along(monkeypatch):
    model = net()
    optimizer = VSAM(sgd(model), model, K=4, M=2, last=2, steps_per_epoch=1)
    optimizer.step(Closure(model, 0))
    elsewhere = [torch.empty_like(p, device="meta") for p in model.parameters()]
    monkeypatch.setattr(VSAM, "params", property(lambda _: elsewhere))
    optimizer._fit_memory()
    kept = [value for value in optimizer.memory.values() if isinstance(value, torch.Tensor)]
    assert len(kept) == 3
    assert {value.device.type for value in kept} == {"meta"}


def test_gradients_of_an_earlier_training_are_no_error_in_a_new_group():
    model = net()
    first, *others = model.parameters()
    optimizer = SAM(SGD([first], lr=0.1), model)
    Closure(model, 0)()
    optimizer.zero_grad()
    optimizer.add_param_group({"params": others})
    optimizer.step(Closure(model, 1))


def test_rho_of_gsam_never_exceeds_its_value():
    scheduler = torch.optim.lr_scheduler
    for make_one in (
        lambda o: scheduler.OneCycleLR(o, max_lr=0.1, total_steps=20, cycle_momentum=False),
        lambda o: scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.1, step_size_up=5, cycle_momentum=False),
    ):
        model = net()
        groups = [{"params": list(model.parameters())[:1], "rho": 0.0}, {"params": list(model.parameters())[1:]}]
        optimizer = GSAM(SGD(groups, lr=0.1), model, rho=0.05, rho_min=0.01)
        schedule, seen = make_one(optimizer), []
        for step in range(19):
            seen.append(optimizer.rhos())
            optimizer.step(Closure(model, step))
            schedule.step()
        assert {none for none, _ in seen} == {0.0}
        assert 0.01 <= min(rho for _, rho in seen) <= max(rho for _, rho in seen) == pytest.approx(0.05)


@pytest.mark.parametrize("build", [lambda m: SAMVI(sgd(m), m, mode="mfvi"), lambda m: SAMVI(sgd(m), m, sigma=0.01)])
def test_noise_is_for_trained_weights(build):
    model = net()
    frozen, *_ = model.parameters()
    frozen.requires_grad_(False)
    optimizer = build(model)
    noise = optimizer.noise()
    assert not noise.parts[0].any()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert optimizer.trained == trained
    assert noise.norm().item() == pytest.approx(1.0, abs=5 / trained**0.5)
