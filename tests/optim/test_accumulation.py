"""Gradient accumulation: micro-batches given to the step are the whole batch, gradients left before it are refused."""

import subprocess
import sys

import pytest
import torch
from support import ddp_buckets
from support.methods import METHODS, Closure, batch, make, net, weights
from torch import nn

from sam_bench.optim import SAM

every_method = pytest.mark.parametrize("name", METHODS)
SIZES = [5, 4, 3]
REFUSED = r"gradients that it did not write.*optimizer\.accumulate\("


class Micro(Closure):
    """The samples `start` to `start + size` of a batch, by a closure that knows nothing of the others."""

    def __init__(self, model, step, start, size, **data):
        super().__init__(model, step, **data)
        self.x, self.y = self.x[start : start + size], self.y[start : start + size]


def parts(model, step, sizes=SIZES, **data) -> list[Micro]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [Micro(model, step, start, size, **data) for start, size in zip(starts, sizes, strict=True)]


def scalar(closure):
    """The closure of most users: it takes nothing and returns the mean."""
    return lambda: closure().mean()


@every_method
def test_micro_batches_are_the_whole_batch(name):
    model, whole = net(dtype=torch.float64), net(dtype=torch.float64)
    optimizer, reference = make(name, model), make(name, whole)
    for step in range(8):
        closure = Closure(whole, step, dtype=torch.float64)
        reference.step(closure, samples=closure.samples)
        pieces = parts(model, step, dtype=torch.float64)
        loss = optimizer.step(optimizer.accumulate(pieces, sizes=SIZES), samples=closure.samples)
        assert loss.ndim == 0
    assert {k: v for k, v in optimizer.memory.items() if isinstance(v, int)} == {
        k: v for k, v in reference.memory.items() if isinstance(v, int)
    }
    # Adam-like magnification does not come in: the base is SGD. LookSAM divides by the length of g_v.
    torch.testing.assert_close(weights(model), weights(whole), rtol=0, atol=1e-5)


def test_a_list_of_closures_is_micro_batches_of_one_size():
    model, whole = net(dtype=torch.float64), net(dtype=torch.float64)
    optimizer, reference = make("sam", model), make("sam", whole)
    for step in range(3):
        pieces = [scalar(closure) for closure in parts(model, step, [6, 6], dtype=torch.float64)]
        loss = optimizer.step(pieces)
        torch.testing.assert_close(loss, reference.step(Closure(whole, step, dtype=torch.float64)))
    torch.testing.assert_close(weights(model), weights(whole))


def test_the_sizes_weigh_means_that_are_scalars():
    model, whole = net(dtype=torch.float64), net(dtype=torch.float64)
    optimizer, reference = make("sam", model), make("sam", whole)
    pieces = [scalar(closure) for closure in parts(model, 0, dtype=torch.float64)]
    loss = optimizer.step(optimizer.accumulate(pieces, sizes=SIZES))
    torch.testing.assert_close(loss, reference.step(Closure(whole, 0, dtype=torch.float64)))
    torch.testing.assert_close(weights(model), weights(whole))


def test_micro_batches_are_checked():
    model = net()
    optimizer = make("sam", model)
    before = weights(model)
    with pytest.raises(ValueError, match=r"sizes=\[5, 4, 3\]"):
        optimizer.step(parts(model, 0))  # a loss per sample shows that they differ
    with pytest.raises(ValueError, match="each of the 2 closures"):
        optimizer.accumulate(parts(model, 0, [6, 6]), sizes=[12])
    with pytest.raises(TypeError, match="one closure for each micro-batch"):
        optimizer.step([])
    with pytest.raises(TypeError, match="a list of functions"):
        optimizer.step(3)
    with pytest.raises(RuntimeError, match="leave zero_grad"):
        optimizer.step([lambda own=own: (optimizer.zero_grad(), own())[1] for own in parts(model, 0, [6, 6])])
    with pytest.raises(TypeError, match="returned None"):
        optimizer.step([lambda: None])
    with pytest.raises(ValueError, match="must say how many"):
        make("sam", model, m_sharpness=4).step(parts(model, 0, [6, 6]), samples=torch.arange(12))
    assert torch.equal(weights(model), before)


# -- gradients that the step did not write ----


def backward(model, step, start, size):
    Micro(model, step, start, size)()


@every_method
def test_accumulated_gradients_are_refused_and_nothing_moves(name):
    """At the first step and later, where they are added to what the step before has left."""
    model = net(norm=True)
    optimizer = make(name, model, "adam")
    for steps in range(2):
        backward(model, steps, 0, 6)
        backward(model, steps, 6, 6)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        last = Micro(model, steps, 6, 6)
        with pytest.raises(RuntimeError, match=f"(?s){REFUSED}"):
            optimizer.step(last, samples=last.samples)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert optimizer.memory["step"] == steps
        closure = Closure(model, steps)
        optimizer.step(closure, samples=closure.samples)  # the refusal has cleared them


def cleared_by_optimizer(optimizer, model):
    optimizer.zero_grad()


def zeroed_by_optimizer(optimizer, model):
    optimizer.zero_grad(set_to_none=False)


def zeroed_by_model(optimizer, model):
    model.zero_grad(set_to_none=False)


def zeroed_by_base(optimizer, model):
    optimizer.base.zero_grad(set_to_none=False)


@every_method
@pytest.mark.parametrize("clear", [cleared_by_optimizer, zeroed_by_optimizer, zeroed_by_model, zeroed_by_base])
def test_cleared_gradients_are_no_alarm(name, clear):
    model, plain = net(), net()
    optimizer, reference = make(name, model), make(name, plain)
    for step in range(4):
        backward(model, step, 0, 6)  # somebody's probe, dropped as they should
        clear(optimizer, model)
        for m, opt in ((model, optimizer), (plain, reference)):
            closure = Closure(m, step)
            opt.step(closure, samples=closure.samples)
    assert torch.equal(weights(model), weights(plain))


def test_gradients_from_before_the_optimizer_are_no_alarm():
    model = net()
    backward(model, 0, 0, 6)
    make("sam", model).step(Closure(model, 0))


def test_frozen_parameters_are_no_alarm():
    model = net()
    backward(model, 0, 0, 6)
    optimizer = make("sam", model)
    model[0].requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    optimizer.step(Closure(model, 0))
    assert model[0].weight.grad is None


def test_clipping_between_steps_is_refused_and_not_silently_without_effect():
    model = net()
    optimizer = make("sam", model)
    optimizer.step(Closure(model, 0))
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    with pytest.raises(RuntimeError, match="clip_norm="):
        optimizer.step(Closure(model, 1))


def test_the_alarm_waits_for_nothing_and_copies_nothing(monkeypatch):
    """In a plain loop no value is looked at."""
    model = net()
    optimizer = make("sam", model)
    optimizer.step(Closure(model, 0))
    looked = []
    norm = torch._foreach_norm
    monkeypatch.setattr(torch, "_foreach_norm", lambda *given: looked.append(given) or norm(*given))
    optimizer.step(Closure(model, 1))
    assert all(len(arguments) == 1 for arguments in looked), "only the alarm asks for another norm than the L2 norm"


@pytest.fixture(scope="module")
def under_ddp(tmp_path_factory):
    """Lines `name view same` of tests/support/ddp_buckets.py."""
    words = [sys.executable, "-m", "support.ddp_buckets", tmp_path_factory.mktemp("ddp") / "meeting"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("name", ddp_buckets.NAMES)
def test_buckets_of_ddp_are_not_taken_for_gradients(name, view, under_ddp):
    """With gradient_as_bucket_view a pass overwrites the gradients of the one before."""
    assert f"{name} {view} True" in under_ddp


# -- what frameworks do ----


@pytest.fixture
def lightning_fit(tmp_path):
    lightning = pytest.importorskip("lightning")
    x, y, _ = batch(0, 24)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=6)

    class Module(lightning.LightningModule):
        def __init__(self, name, automatic, options):
            super().__init__()
            self.net, self.made, self.options = net(norm=True), name, options
            self.automatic_optimization = automatic

        def configure_optimizers(self):
            return make(self.made, self, "adam", **self.options)

        def training_step(self, rows, number):
            def loss():
                return nn.functional.cross_entropy(self.net(rows[0]), rows[1])

            if self.automatic_optimization:
                return loss()

            def closure():
                value = loss()
                self.manual_backward(value)
                return value

            self.optimizers().step(closure)

    def fit(name, automatic=True, accumulate=1, **options):
        off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = lightning.Trainer(
            max_epochs=3, accelerator="cpu", accumulate_grad_batches=accumulate, default_root_dir=tmp_path, **off
        )
        module = Module(name, automatic, options)
        trainer.fit(module, loader)
        return module.net.state_dict(), trainer.optimizers[0].memory

    return fit


@pytest.mark.parametrize("name", ["erm", "sam", "looksam", "ae_sam", "ae_looksam", "graphsam", "vsam", "gsam", "fsam"])
def test_lightning_automatic_is_lightning_manual_bit_by_bit(lightning_fit, name):
    (one, memory), (other, by_hand) = lightning_fit(name), lightning_fit(name, automatic=False)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert memory["step"] == by_hand["step"] == 12
    assert memory["grad_evals"] == by_hand["grad_evals"]


def test_lightning_accumulation_is_refused(lightning_fit):
    with pytest.raises(RuntimeError, match=f"(?s){REFUSED}"):
        lightning_fit("sam", accumulate=2)


def test_lightning_methods_that_choose_samples_say_that_they_need_more(lightning_fit):
    with pytest.raises((TypeError, ValueError), match=r"index=None|one loss per sample"):
        lightning_fit("esam")


def test_accelerate_accumulation_is_refused():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = accelerator.prepare(net())
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model)
    x, y, _ = batch(0)

    def closure():
        loss = nn.functional.cross_entropy(model(x), y)
        accelerator.backward(loss)
        return loss

    def train():
        for _ in range(2):
            with accelerator.accumulate(model):
                closure()
                if accelerator.sync_gradients:
                    optimizer.step(closure)

    with pytest.raises(RuntimeError, match=f"(?s){REFUSED}"):
        train()
