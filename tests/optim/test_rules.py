"""Each rule against itself in a few lines of plain torch: what neither a limit nor a recorded run would notice."""

import math

import pytest
import torch
from support.methods import EPOCH, Closure, make, net, weights
from torch import nn

from sam_bench.optim.vector import Vector

LR = 0.1


def gradient(at: torch.Tensor, step: int, rows: torch.Tensor | None = None) -> torch.Tensor:
    """The gradient (N,) of the batch of `step` at the weights `at`."""
    model = net(dtype=torch.float64)
    nn.utils.vector_to_parameters(at.clone(), model.parameters())
    closure = Closure(model, step, dtype=torch.float64)
    closure(rows)
    return torch.cat([p.grad.view(-1) for p in model.parameters()])


class Watched(Closure):
    """Notes the weights that each pass is made at."""

    def __init__(self, model, step):
        super().__init__(model, step, dtype=torch.float64)
        self.at: list[torch.Tensor] = []
        self.index: list[torch.Tensor | None] = []

    def __call__(self, index=None, backward=True):
        self.at.append(weights(self.model))
        self.index.append(index)
        return super().__call__(index, backward)


def steps(name: str, count: int, base="sgd", **options):
    """For each step: the weights before, the weights of each pass, the direction (the base is plain SGD of rate LR)."""
    model = net(dtype=torch.float64)
    optimizer = make(name, model, base, **options)
    for step in range(count):
        before, closure = weights(model), Watched(model, step)
        optimizer.step(closure, samples=closure.samples)
        yield before, closure.at, (before - weights(model)) / LR, optimizer


def close(a, b, atol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_looksam_reuse_is_the_orthogonal_part():
    for step, (w, _at, d, _) in enumerate(steps("looksam", 9, k=4, alpha=0.3, rho=0.2)):
        g = gradient(w, step)
        if step % 4 == 0:
            g_s = gradient(w + 0.2 * g / g.norm(), step)
            g_v = g_s - (g_s @ g) / (g @ g) * g
            assert abs(g_v @ g) < 1e-12
            close(d, g_s)
        else:
            close(d, g + 0.3 * g.norm() / g_v.norm() * g_v)
            assert (d - g).norm() == pytest.approx(0.3 * g.norm().item())


@pytest.mark.parametrize("name", ["ae_sam", "ae_looksam"])
def test_ae_sam_follows_its_moving_statistics(name):
    delta, first, last, total = 0.8, 2.0, -1.0, 20
    options = {"delta": delta, "lambda_1": last, "lambda_2": first, "mu_0": 0.1, "sigma2_0": 0.01}
    mu, sigma2, taken = 0.1, 0.01, []
    for t, (w, at, _d, optimizer) in enumerate(steps(name, total, total_steps=total, rho=0.1, **options)):
        s = gradient(w, t).square().sum().item()
        mu = delta * mu + (1 - delta) * s
        sigma2 = delta * sigma2 + (1 - delta) * (s - mu) ** 2
        c = t / total * last + (1 - t / total) * first
        taken.append(s >= mu + c * math.sqrt(sigma2))
        assert (len(at) == 2) == taken[-1], f"step {t}"
        assert (optimizer.memory["mu"], optimizer.memory["sigma2"]) == pytest.approx((mu, sigma2))
    assert 0 < sum(taken) < total


def test_ae_looksam_reuses_a_tiny_part_in_full():
    """However short `g_v` is, what is added to `g` is `alpha * ||g||` long."""
    seen = 0
    for step, (w, at, d, _) in enumerate(steps("ae_looksam", 12, rho=1e-11, alpha=0.3)):
        g = gradient(w, step)
        if len(at) == 1 and seen:
            assert (d - g).norm().item() == pytest.approx(0.3 * g.norm().item(), rel=1e-3)
        seen += len(at) == 2
    assert 0 < seen < 12


@pytest.mark.parametrize("decay_epochs", [1, 2])
def test_graphsam_follows_its_average(decay_epochs):
    beta, gamma, rho = 0.7, 0.5, 0.3
    run = steps("graphsam", 4 * EPOCH, beta=beta, gamma=gamma, rho=rho, decay_epochs=decay_epochs)
    for step, (w, at, d, _) in enumerate(run):
        h = gradient(w, step) if step % EPOCH == 0 else beta * h + (1 - beta) * g_s / g_s.norm()  # noqa: F821
        rho_e = rho * gamma ** (step // EPOCH // decay_epochs)
        close(at[-1], w + rho_e * h / h.norm())
        g_s = gradient(at[-1], step)
        close(d, g_s)


@pytest.mark.parametrize("compound", [True, False])
def test_the_decay_compounds_or_not(compound):
    """At the first step of an epoch every tensor's perturbation has the radius, or less where rho does not reach it."""
    options = {"compound_decay": compound, "gamma": 0.5, "adaptive": False, "rho": 1e6, "radius": 0.1}
    for step, (w, at, _d, _) in enumerate(steps("graphsam_reference", 4 * EPOCH, **options)):
        m = step // EPOCH
        eps = net(dtype=torch.float64)
        nn.utils.vector_to_parameters(at[-1] - w, eps.parameters())
        radius = 0.1 * 0.5 ** (m * (m + 1) / 2 if compound else m)
        for p in eps.parameters():
            assert p.norm().item() == pytest.approx(radius, rel=1e-9)


def test_the_reference_average_guards_each_element():
    """Its code adds 1e-8 to every element before the norm, which shows where a gradient is that small."""
    optimizer = make("graphsam_reference_gpu", net(dtype=torch.float64), "sgd", beta=0.9)
    h = Vector([torch.ones(3), torch.ones(2)])
    g_s = Vector([torch.tensor([1e-8, 0.0, -1e-8]), torch.tensor([3.0, 4.0])])
    first, second = optimizer._average(h, g_s).dense()
    close(first, 0.9 + 0.1 * torch.tensor([1.0, 0.0, -1.0]) / 5**0.5, atol=1e-4)
    close(second, 0.9 + 0.1 * torch.tensor([0.6, 0.8]), atol=1e-6)


def test_gsam_descends_the_gap_and_lets_rho_follow_the_learning_rate():
    model = net(dtype=torch.float64)
    optimizer = make("gsam", model, "sgd", rho=0.2, rho_min=0.05, alpha=0.3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=5)
    for step in range(5):
        lr = optimizer.param_groups[0]["lr"]
        assert lr == pytest.approx(LR * (1 - step / 5))
        w, closure = weights(model), Watched(model, step)
        optimizer.step(closure)
        g = gradient(w, step)
        close(closure.at[1], w + (0.05 + 0.15 * lr / LR) * g / g.norm())
        g_s = gradient(closure.at[1], step)
        g_perp = g - (g @ g_s) / (g_s @ g_s) * g_s
        close((w - weights(model)) / lr, g_s - 0.3 * g_perp)
        schedule.step()


def losses(at: torch.Tensor, step: int) -> torch.Tensor:
    """The loss of each sample of the batch of `step` at the weights `at`."""
    model = net(dtype=torch.float64)
    nn.utils.vector_to_parameters(at.clone(), model.parameters())
    return Closure(model, step, dtype=torch.float64)(backward=False)


def test_ausam_notes_how_far_each_loss_moves():
    """Full batches in epoch 0, then half of each; both passes on the same samples, `a` the mean over their visits."""
    model = net(dtype=torch.float64)
    optimizer = make("ausam", model, "sgd", rho=0.3)
    moved: list[list[float]] = [[] for _ in range(12 * EPOCH)]
    for step in range(4 * EPOCH):
        w, closure = weights(model), Watched(model, step)
        optimizer.step(closure, samples=closure.samples)
        first, second = closure.index
        assert (first is None) == (second is None) == (step < EPOCH)
        rows = torch.arange(12) if first is None else first
        assert len(rows.unique()) == len(rows) == (12 if step < EPOCH else 6)
        assert first is None or torch.equal(first, second)
        g = gradient(w, step, rows)
        close(closure.at[1], w + 0.3 * g / g.norm())
        close((w - weights(model)) / LR, gradient(closure.at[1], step, rows))
        change = (losses(closure.at[1], step) - losses(w, step)).abs()
        for row in rows.tolist():
            moved[closure.samples[row]].append(change[row].item())
    expected = torch.tensor([sum(values) / len(values) for values in moved])
    torch.testing.assert_close(optimizer.memory["a"], expected, rtol=1e-5, atol=1e-6)


def test_ausam_draws_the_hurt_samples_more_often(monkeypatch):
    """The weights of the draw, and that it is one without replacement that depends on the step."""
    optimizer = make("ausam", net(), "sgd", f_min=0.1, f_max=0.9, alpha=0.3, steps_per_epoch=1)
    optimizer.memory |= {"a": 5 + 2 * torch.arange(12.0), "seen": torch.ones(12)}
    draws = []
    for step in range(20):
        optimizer.memory["step"] = step
        draws.append(optimizer._draw(torch.arange(12), epoch=30))
        assert torch.equal(draws[-1], optimizer._draw(torch.arange(12), epoch=30))
        assert len(draws[-1].unique()) == 3
    assert len({tuple(draw.tolist()) for draw in draws}) > 15
    seen = []
    monkeypatch.setattr(torch, "multinomial", lambda p, count, generator: seen.append((p, count)))
    for epoch, f_max in ((0, 0.1), (15, 0.5), (30, 0.9), (99, 0.9)):
        optimizer._draw(torch.arange(12), epoch)
        p, count = seen.pop()
        assert count == 3
        torch.testing.assert_close(p, 0.1 + (f_max - 0.1) * torch.arange(12) / 11)


@pytest.mark.parametrize("base", ["sgd", "momentum", "adam"])
def test_msam_looks_along_the_momentum_of_the_base(base):
    v = None
    for step, (w, at, _d, optimizer) in enumerate(steps("msam", 5, base, rho=0.2)):
        assert len(at) == 1
        close(at[0], w if v is None else w - 0.2 * v / v.norm())
        if base == "sgd":
            v = gradient(at[0], step) + (0.0 if v is None else 0.9 * v)
        else:
            name = "exp_avg" if base == "adam" else "momentum_buffer"
            v = torch.cat([optimizer.base.state[p][name].view(-1) for p in optimizer.params])


@pytest.mark.parametrize("name", ["sam_vi", "sam_vi_mfvi"])
@pytest.mark.parametrize("sigma", [None, 0.02])
def test_the_noise_has_the_length_it_says(name, sigma):
    """In 83 dimensions a normal vector is its root mean square long, a tenth more or less."""
    seen = []
    for step, (w, at, d, _) in enumerate(steps(name, 12, rho=0.2, sigma=sigma)):
        g = gradient(w, step)
        noise = at[-1] - w - (0.2 * g / g.norm() if name == "sam_vi" else 0.0)
        close(d, gradient(at[-1], step))
        seen.append(noise)
    expected = 0.2 if sigma is None else sigma * math.sqrt(len(w))
    lengths = torch.stack(seen).norm(dim=1)
    assert lengths.square().mean().sqrt().item() == pytest.approx(expected, rel=0.1)
    turned = torch.corrcoef(torch.stack(seen)) - torch.eye(12)
    assert turned.abs().max() < 0.6, "each step draws anew"


@pytest.mark.parametrize("along", ["gradient", "noise"])
def test_extrapolation_is_along_the_previous_gradient(along):
    d = None
    for step, (w, at, direction, _) in enumerate(steps("extrapolated_sgd", 6, rho=0.3, along=along)):
        assert len(at) == 1
        if along == "noise":
            assert (at[0] - w).norm().item() == pytest.approx(0.3, rel=0.3)
        else:
            close(at[0], w if d is None else w - 0.3 * d)
        d = gradient(at[0], step)
        close(direction, d)


def test_fsam_perturbs_with_what_the_average_lacks():
    m = None
    for step, (w, at, d, _) in enumerate(steps("fsam", 6, rho=0.2, sigma=0.8, lmbda=0.6)):
        g = gradient(w, step)
        own = g if m is None else g - 0.8 * m
        m = g if m is None else 0.6 * m + 0.4 * g
        close(at[1], w + 0.2 * own / own.norm())
        close(d, gradient(at[1], step))


@pytest.mark.parametrize("scope", ["weight", "all"])
def test_asam_measures_relative_to_the_weights(scope):
    names = [name for name, p in net().named_parameters() for _ in range(p.numel())]
    inside = torch.tensor([scope == "all" or "weight" in name for name in names])
    for step, (w, at, d, _) in enumerate(steps("asam", 3, rho=0.4, eta=0.05, scope=scope)):
        g, t = gradient(w, step), torch.where(inside, w.abs() + 0.05, 1.0)
        close(at[1], w + 0.4 * t**2 * g / (t * g).norm())
        close(d, gradient(at[1], step))


def test_esam_perturbs_the_drawn_tensors_and_keeps_the_samples_that_rise():
    sizes = [p.numel() for p in net().parameters()]
    for step, (w, at, d, optimizer) in enumerate(steps("esam", 6, rho=0.3, beta=0.5, gamma=0.5)):
        optimizer.memory["step"] -= 1  # the draws of the step that was just made
        drawn = torch.cat([torch.full((n,), bool(b)) for n, b in zip(sizes, optimizer.drawn(), strict=True)])
        optimizer.memory["step"] += 1
        g = torch.where(drawn, gradient(w, step), 0.0)
        close(at[1], w + 0.3 / 0.5 * g / (g.norm() + 1e-7))
        rows = (losses(at[1], step) - losses(at[0], step)).argsort(descending=True)[
            :5
        ]  # strictly above the sixth of twelve
        close(d, gradient(at[1], step, rows.sort().values if drawn.any() else None), atol=1e-8 if drawn.any() else 1e9)


def test_vsam_fades_its_reuse():
    """On the k-th step after a SAM step `beta^k v`, six times at most."""
    v, since = None, 99
    for step, (w, at, d, optimizer) in enumerate(
        steps("vsam", 40, K=12, M=2, beta=0.5, rho=0.2, last=2, steps_per_epoch=1)
    ):
        g = gradient(w, step)
        if len(at) == 2:
            close(at[1], w + 0.2 * g / g.norm())
            v, since = gradient(at[1], step) - g, 0
            close(d, g + v)
            continue
        since += 1
        assert step >= optimizer.warm_up == 12
        close(d, g + 0.5**since * v if since <= 6 else g)
    assert since > 6 or optimizer.memory["s"] > 1


@pytest.mark.parametrize("p_max", [0.8, 0.35])
def test_vsam_budget_follows_its_windows(p_max):
    """`s` after a window, from the statistics in plain torch; p_max caps it."""
    model = net(dtype=torch.float64)
    optimizer = make("vsam", model, "sgd", K=6, M=2, a1=5.0, a2=2.5, p_max=p_max, last=2, steps_per_epoch=1, rho=0.5)
    norms, ratios, blocks, s, largest = [], [], [], 1.0, 0.0
    for step in range(30):
        closure, position = Watched(model, step), step - optimizer.warm_up + 1
        if position > 0 and position % 6 == 0:
            changes = []
            for values in (ratios[-6:], blocks[-6:]):
                window = torch.tensor(values)
                change = ((window[1:] - window[:-1]) / window[:-1]).mean()
                changes.append(change.nan_to_num(0, 0, 0).clamp(-1, 1).item())
            s = min(max(s * (1 + 5.0 * changes[0] + 2.5 * changes[1]), 1.0), int(p_max * 6))
            largest = max(largest, s)
        optimizer.step(closure)
        assert optimizer.memory["s"] == pytest.approx(s, rel=1e-6), f"step {step}"
        if len(closure.at) == 2:
            g, g_s = (gradient(where, step)[-27:] for where in closure.at)  # the last two tensors: 3 x 8 and 3
            norms.append((g_s - g).norm().item())
            ratios.append(norms[-1] / g.norm().item())
            window = torch.tensor(([0.0] * 6 + norms)[-6:], dtype=torch.float64).sort().values.view(2, 3)
            blocks.append(window.var(dim=1).mean().item())
            newest = [optimizer.memory[name][-1].item() for name in ("N", "R", "Q")]
            assert newest == pytest.approx([norms[-1], ratios[-1], blocks[-1]])
    assert largest == int(p_max * 6)


@pytest.mark.parametrize("decay", [0.0, 1e-4, 0.5, 0.9, 0.999, 1.0])
def test_an_average_that_notes_its_factor_is_the_average(decay):
    generator = torch.Generator().manual_seed(0)
    new = [torch.randn(5, generator=generator) for _ in range(2000)]
    kept, plain = Vector([torch.zeros(5)]), torch.zeros(5, dtype=torch.float64)
    for g in new:
        kept.blend(decay, 0.25 * Vector([g]))
        kept = kept.settled()
        plain = decay * plain + 0.25 * g.double()
        assert 1e-3 <= abs(kept.factor) <= 1, "tensors that grow for ever overflow"
    torch.testing.assert_close(kept.flat().double(), plain, rtol=1e-4, atol=1e-5)
