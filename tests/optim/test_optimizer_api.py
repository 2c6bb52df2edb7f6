"""What a torch optimizer can do, ours can; what it cannot do it says clearly."""

import copy
import pickle
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import torch
from packaging.requirements import Requirement
from support import ROOT
from support.methods import BASES, METHODS, Closure, frozen, make, net, same, train, weights
from torch import nn

import sam_bench.optim
from sam_bench.errors import UsageError
from sam_bench.optim import (
    AESAM,
    ASAM,
    AUSAM,
    ERM,
    ESAM,
    GSAM,
    SAM,
    VSAM,
    GraphSAM,
    LookSAM,
    SharpnessAware,
    create_optimizer,
)
from sam_bench.optim.when import Always

every_method = pytest.mark.parametrize("name", METHODS)


def test_importing_the_optimizers_imports_nothing_of_the_suite():
    heavy = ("hydra", "omegaconf", "rdkit", "torch_geometric", "pandas", "matplotlib", "sklearn", "wandb", "ogb")
    code = f"import sys, sam_bench.optim; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WITHOUT_THE_SUITE = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in sys.argv[1].split() else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
import torch
from sam_bench.optim import create_optimizer

for name in sys.argv[2].split():
    model = torch.nn.Linear(4, 2)
    optimizer = create_optimizer(name, "adamw", model, steps_per_epoch=2, total_steps=9)
    def closure(index=None, backward=True):
        x = torch.ones(6, 4) if index is None else torch.ones(6, 4)[index]
        losses = model(x).square().mean(1)
        if backward:
            losses.mean().backward()
        return losses
    for _ in range(3):
        assert optimizer.step(closure, samples=torch.arange(6)).isfinite()
    print(name)
"""


def test_every_method_steps_without_the_suite():
    """With what `pip install sam-bench` brings and none of the extras: their packages cannot be imported."""
    pytest.importorskip("hydra", reason="the suite is not installed: all tests here run without it")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {"sam-bench", *(Requirement(line).name for line in project["dependencies"])}
    extras = [Requirement(line).name for group in project["optional-dependencies"].values() for line in group]
    provided = metadata.packages_distributions()
    refused = [module for module, packages in provided.items() if {*packages} & {*extras} - core]
    assert {"hydra", "rdkit", "torch_geometric", "sklearn", "omegaconf"} <= {*refused}
    command = [sys.executable, "-c", WITHOUT_THE_SUITE, " ".join(refused), " ".join(METHODS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == METHODS, done.stderr[-2000:]


def test_every_class_is_exported_and_has_a_yaml():
    built = {type(make(name, net())) for name in METHODS}
    exported = {getattr(sam_bench.optim, name) for name in sam_bench.optim.__all__}
    assert {c for c in exported if isinstance(c, type)} - {SharpnessAware} == built


@every_method
def test_it_is_an_optimizer_by_delegation(name):
    model = net()
    optimizer = make(name, model, "adam")
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert optimizer.defaults is optimizer.base.defaults
    assert type(optimizer).__name__ in repr(optimizer)


@every_method
@pytest.mark.parametrize("through", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_like_the_original(name, through):
    model = net()
    optimizer = make(name, model, "adam")
    torch.optim.lr_scheduler.StepLR(optimizer, 2)  # patches step on the instance
    train(optimizer, model, 5)
    twin, second = through((model, optimizer))
    train(optimizer, model, 5, start=5)
    train(second, twin, 5, start=5)
    assert torch.equal(weights(model), weights(twin))
    assert same(optimizer.state_dict(), second.state_dict())


def test_hooks_of_torch_are_called():
    model, called = net(), []
    optimizer = make("sam", model)
    optimizer.register_step_pre_hook(lambda *_: called.append("pre"))
    optimizer.register_step_post_hook(lambda *_: called.append("post"))
    optimizer.base.register_step_pre_hook(lambda *_: called.append("base"))
    optimizer.register_state_dict_post_hook(lambda opt, state: called.append("saved"))
    optimizer.register_load_state_dict_post_hook(lambda opt: called.append("loaded"))
    train(optimizer, model, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert called == ["pre", "base", "post", "saved", "loaded"]


def test_the_step_returns_the_loss_of_the_first_pass():
    model = net()
    expected = Closure(net(), 0)().mean()
    loss = make("sam", model).step(Closure(model, 0))
    assert torch.equal(loss, expected)
    assert loss.ndim == 0
    assert not loss.requires_grad


@pytest.mark.parametrize("zero", [True, False])
def test_a_closure_that_clears_the_gradients_may_find_some(zero):
    """Those of an earlier backward lie about: the closure itself drops them."""
    model, reference = net(), net()
    optimizer = make("sam", model)

    def closure():
        optimizer.zero_grad(set_to_none=zero)
        loss = model(torch.ones(2, 6)).square().sum()
        loss.backward()
        return loss

    model(torch.ones(2, 6)).sum().backward()
    optimizer.step(closure)
    second = make("sam", reference)

    def clean():
        loss = reference(torch.ones(2, 6)).square().sum()
        loss.backward()
        return loss

    second.step(clean)
    assert torch.equal(weights(model), weights(reference))


def test_a_closure_may_return_a_number():
    model = net()

    def closure():
        loss = model(torch.ones(2, 6)).square().sum()
        loss.backward()
        return loss.item()

    assert make("sam", model).step(closure).ndim == 0


def test_dropout_masks_are_drawn_anew_or_kept():
    for kept in (False, True):
        torch.manual_seed(0)
        masks, drop = [], nn.Dropout(0.5)
        model = nn.Linear(6, 3)
        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model, same_dropout=kept)

        def closure(masks=masks, drop=drop, model=model):
            masks.append(drop(torch.ones(64)))
            loss = (model(torch.ones(2, 6)).square() * masks[-1][:3]).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        optimizer.step(closure)
        assert torch.equal(masks[0], masks[1]) == kept
        assert not torch.equal(masks[0], masks[2])


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_unknown_names_and_options_are_refused_with_advice():
    model = net()
    with pytest.raises(UsageError, match="Did you mean 'looksam'"):
        create_optimizer("lookasm", "sgd", model)
    with pytest.raises(UsageError, match="Did you mean 'adam"):
        create_optimizer("sam", "adm", model)
    with pytest.raises(TypeError, match=r"sam has no option 'roh'\. Did you mean 'rho'"):
        create_optimizer("sam", "sgd", model, roh=0.1)
    with pytest.raises(TypeError, match="has no option 'k'"):
        create_optimizer("ae_looksam", "sgd", model, k=3, total_steps=5)
    with pytest.raises(TypeError):
        SAM(torch.optim.SGD(model.parameters(), lr=0.1), model, roh=0.1)


@pytest.mark.parametrize(
    ("method", "name"),
    [("ae_sam", "total_steps"), ("ae_looksam", "total_steps"), ("graphsam", "steps_per_epoch"),
     ("graphsam_reference", "steps_per_epoch"), ("vsam", "steps_per_epoch"), ("ausam", "steps_per_epoch")],
)  # fmt: skip
def test_a_missing_length_is_named_at_construction(method, name):
    with pytest.raises(ValueError, match=f"needs {name}="):
        create_optimizer(method, "sgd", net())


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda base, model: SAM(model.parameters(), model), "must be a torch optimizer"),
        (lambda base, model: SAM(ERM(base, model), model), "itself a sharpness-aware method"),
        (lambda base, model: SAM(base, model, rho=-1.0), "rho must be a finite number >= 0"),
        (lambda base, model: SAM(base, model, rho=float("nan")), "rho must be a finite number >= 0"),
        (lambda base, model: SAM(base, model, m_sharpness="rank"), "m_sharpness must be"),
        (lambda base, model: SAM(base, model, m_sharpness=0), "m_sharpness must be an integer >= 1, or one of device"),
        (lambda base, model: LookSAM(base, model, k=0), "k must be at least 1"),
        (lambda base, model: GraphSAM(base, model, steps_per_epoch=3, decay_epochs=0), "decay_epochs"),
        (lambda base, model: AESAM(base, model, total_steps=0), "total_steps"),
        (
            lambda base, model: AESAM(base, model, total_steps=5, delta=2.0),
            r"delta must be a number in \[0, 1\], got 2.0",
        ),
        (lambda base, model: VSAM(base, model, steps_per_epoch=3, K=5, M=3), "K must be at least 2\\*M"),
        (lambda base, model: VSAM(base, model, steps_per_epoch=3, p_max=1.2), "p_max must be a number in \\(0, 1\\]"),
        (lambda base, model: VSAM(base, model, steps_per_epoch=3, p_max=0.001), "p_max must be at least 1/K"),
        (lambda base, model: VSAM(base, model, steps_per_epoch=3, last=0), "last must be an integer >= 1"),
        (lambda base, model: ESAM(base, model, gamma=0.0), "gamma must be a number in \\(0, 1\\]"),
        (lambda base, model: AUSAM(base, model, steps_per_epoch=3, f_min=0.6), "f_min <= f_max"),
        (lambda base, model: ASAM(base, model, scope="wieght"), "scope must be one of weight, all, got 'wieght'"),
        (lambda base, model: GSAM(base, model, rho_min=-1), "rho_min must be a number >= 0, or null"),
        (lambda base, model: AESAM(base, model, total_steps=5, when=Always()), "'when'"),
        (lambda base, model: VSAM(base, model, steps_per_epoch=3, when=Always()), "'when'"),
        (lambda base, model: AUSAM(base, model, steps_per_epoch=3, when=Always()), "'when'"),
        (lambda base, model: LookSAM(base, model, when=Always()), "'when'"),
        (lambda base, model: SAM(torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), model), "negate the loss"),
    ],
)
def test_bad_arguments_are_refused(make_it, message):
    model = net()
    with pytest.raises((TypeError, ValueError), match=message):
        make_it(BASES["sgd"](model.parameters()), model)


def test_the_closure_is_checked():
    model = net()
    optimizer = make("sam", model)
    with pytest.raises(TypeError, match="needs a closure"):
        optimizer.step()
    with pytest.raises(TypeError, match="returned None"):
        optimizer.step(lambda: model(torch.ones(2, 6)).sum().backward())


@pytest.mark.parametrize("name", ["ausam", "esam"])
def test_methods_that_choose_samples_say_what_they_need(name):
    model = net()

    def plain():
        loss = model(torch.ones(2, 6)).square().mean()
        loss.backward()
        return loss

    def scalar(index=None):
        return plain()

    with pytest.raises(TypeError, match="index=None"):
        make(name, model).step(plain)
    with pytest.raises(ValueError, match="one loss per sample"):
        make(name, model).step(scalar, samples=torch.arange(2))


def test_sparse_complex_and_scattered_parameters_are_refused():
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = SAM(torch.optim.SGD(table.parameters(), lr=0.1), table)

    def closure():
        loss = table(torch.tensor([1])).sum()
        loss.backward()
        return loss

    with pytest.raises(TypeError, match="sparse=False"):
        optimizer.step(closure)
    wave = nn.ParameterList([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    with pytest.raises(TypeError, match="complex"):
        SAM(torch.optim.SGD(wave.parameters(), lr=0.1), wave)
    two = nn.ParameterList([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, device="meta"))])
    with pytest.raises(ValueError, match="on one device"):
        SAM(torch.optim.SGD(two.parameters(), lr=0.1), two)


def test_foreign_states_are_refused_and_change_nothing():
    model = net()
    optimizer = make("looksam", model, "adam")
    train(optimizer, model, 4)
    before = frozen(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"bare torch optimizer goes into \.base"):
        optimizer.load_state_dict(optimizer.base.state_dict())
    with pytest.raises(ValueError, match="state of SAM, not of LookSAM"):
        optimizer.load_state_dict(make("sam", net(), "adam").state_dict())
    wide = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    other = make("looksam", wide, "adam")
    train(other, wide, 1)
    with pytest.raises(ValueError, match="of another model"):
        optimizer.load_state_dict(other.state_dict())
    assert same(optimizer.state_dict(), before)


@pytest.mark.parametrize("size", [4, 5])
def test_m_sharpness_splits_the_batch(size):
    """The whole batch as a piece is SAM; pieces of 4 (or 5, 5 and 2) samples are the mean of their SAM gradients."""
    model, whole = net(dtype=torch.float64), net(dtype=torch.float64)
    optimizer, reference = make("sam", model, m_sharpness=12), make("sam", whole)
    for step in range(3):
        closure = Closure(model, step, dtype=torch.float64)
        optimizer.step(closure, samples=closure.samples)
        reference.step(Closure(whole, step, dtype=torch.float64))
    torch.testing.assert_close(weights(model), weights(whole))

    model, seen = net(dtype=torch.float64), []
    optimizer = make("sam", model, "sgd", m_sharpness=size)
    closure = Closure(model, 0, dtype=torch.float64)
    loss = optimizer.step(closure, samples=closure.samples)
    assert closure.calls == 6
    assert optimizer.memory["grad_evals"] == 2
    assert loss == Closure(net(dtype=torch.float64), 0, dtype=torch.float64)().mean()
    for piece in torch.arange(12).split(size):
        part = net(dtype=torch.float64)
        single = make("sam", part, "sgd")
        start = weights(part)
        one = Closure(part, 0, dtype=torch.float64)
        single.step(lambda one=one, piece=piece: one(piece))
        seen.append((start - weights(part)) * len(piece) / 12)
    torch.testing.assert_close(weights(net(dtype=torch.float64)) - weights(model), sum(seen))


def test_ausam_without_samples_warns_and_goes_by_the_place_in_the_epoch():
    known, model = net(), net()
    first, second = make("ausam", known), make("ausam", model)
    with pytest.warns(UserWarning, match="no samples="):
        second.step(Closure(model, 0))
    train(first, known, 1)
    for step in range(1, 9):
        train(first, known, 1, start=step)
        second.step(Closure(model, step))
    assert torch.equal(weights(known), weights(model))


def test_esam_without_a_forward_pass_spends_a_whole_one():
    model, other = net(), net()
    optimizer, full = make("esam", model), make("esam", other)
    for step in range(4):
        closure, whole = Closure(model, step), Closure(other, step)
        optimizer.step(closure)
        full.step(lambda index=None, whole=whole: whole(index))
    assert torch.equal(weights(model), weights(other))
    assert full.memory["grad_evals"] - optimizer.memory["grad_evals"] == pytest.approx(4 * (1 - 1 / 3))
