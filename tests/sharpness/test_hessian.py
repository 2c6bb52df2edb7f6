"""Sharpness against a dense Hessian, ARPACK, a textbook Hessian, closed forms, and by hand."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from torch import nn

from sam_bench.sharpness import hessian, landscape
from sam_bench.sharpness.surface import Surface


class Samples:
    """Inputs and targets, as a task's batch has them."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)


def squared(model, batch):
    return (model(batch.x) - batch.y).square().mean(1)


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 2))
    x, y = torch.randn(60, 5), torch.randn(60, 2)
    return model, x, y


@pytest.fixture
def surface(network):
    model, x, y = network
    return Surface(model, [Samples(x[i], y[i]) for i in torch.arange(60).split(25)], squared)


@pytest.fixture
def dense(network):
    """The Hessian of the whole loss, by torch.func: forward over reverse, another path through autograd."""
    model, x, y = network
    model = nn.Sequential(*model).double().eval()
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return (torch.func.functional_call(model, weights, (x.double(),)) - y.double()).square().mean()

    at = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return torch.func.hessian(loss)(at), torch.func.grad(loss)(at), loss(at)


def start(n):
    return torch.randn(n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_loss_gradient_and_products_equal_those_of_the_whole_batch(surface, dense):
    matrix, gradient, loss = dense
    assert surface.loss() == pytest.approx(loss.item(), rel=1e-12)
    assert torch.allclose(surface.gradient(), gradient, rtol=1e-10, atol=1e-14)
    for v in torch.eye(len(surface), dtype=torch.float64)[::7]:
        assert torch.allclose(surface.product(v), matrix @ v, rtol=1e-8, atol=1e-12)


def test_the_largest_eigenvalue_is_that_of_the_dense_hessian_and_of_arpack(surface, dense):
    found = hessian.largest_eigenvalue(surface.product, start(len(surface)), tolerance=1e-6, most=500)
    assert found.converged
    assert found.value == pytest.approx(torch.linalg.eigvalsh(dense[0])[-1].item(), rel=1e-9)
    operator = LinearOperator((len(surface),) * 2, lambda v: surface.product(torch.from_numpy(v.ravel())).numpy(),
                              dtype=np.float64)  # fmt: skip
    assert found.value == pytest.approx(eigsh(operator, k=1, which="LA", tol=1e-8)[0][0], rel=1e-7)


def softmax_hessian(x, weights, bias):
    """The Hessian of the mean cross entropy of a linear model, without automatic differentiation (Boehning 1992)."""
    x1 = np.hstack([x, np.ones((len(x), 1))])
    scores = x @ weights.T + bias
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    inner = np.einsum("nk,kl->nkl", p, np.eye(p.shape[1])) - np.einsum("nk,nl->nkl", p, p)
    return np.einsum("nkl,ni,nj->kilj", inner, x1, x1) / len(x)


def test_the_hessian_of_softmax_regression_on_digits_is_that_of_the_textbook():
    digits = load_digits()
    x = (digits.data.reshape(-1, 4, 2, 4, 2).sum((2, 4)) / 64).reshape(-1, 16)[:300].astype(np.float32)
    y = torch.from_numpy(digits.target[:300])
    torch.manual_seed(1)
    model = nn.Linear(16, 10)
    batches = [Samples(torch.from_numpy(x)[i], y[i]) for i in torch.arange(300).split(128)]
    surface = Surface(model, batches, lambda net, b: nn.functional.cross_entropy(net(b.x), b.y, reduction="none"))
    by_class = softmax_hessian(x.astype(float), *(p.detach().double().numpy() for p in (model.weight, model.bias)))
    order = [(k, i) for k in range(10) for i in range(16)] + [(k, 16) for k in range(10)]  # weights, then biases
    k, i = np.array(order).T
    book = by_class[k[:, None], i[:, None], k[None], i[None]]
    mine = np.stack([surface.product(v).numpy() for v in torch.eye(len(surface), dtype=torch.float64)])
    assert np.allclose(mine, book, rtol=1e-9, atol=1e-12)
    found = hessian.largest_eigenvalue(surface.product, start(len(surface)), tolerance=1e-6, most=500)
    assert found.value == pytest.approx(np.linalg.eigvalsh(book)[-1], rel=1e-9)
    values = hessian.trace_samples(surface.product, surface.weights, 200, torch.Generator().manual_seed(0))
    assert abs(values.mean().item() - np.trace(book)) < 3 * values.std().item() / 200**0.5


def test_the_largest_eigenvalue_is_not_the_largest_in_magnitude_and_survives_restarts():
    n = 400
    values = torch.linspace(-30.0, 9.0, n, dtype=torch.float64)
    values[-1] = 10.0
    basis = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    matrix = basis @ torch.diag(values) @ basis.T
    found = hessian.largest_eigenvalue(lambda v: matrix @ v, start(n), tolerance=1e-4, most=1000)
    assert found.products > hessian.BASIS
    assert found.converged
    assert found.value == pytest.approx(10.0, abs=found.residual)


def test_an_eigenvalue_that_has_not_converged_says_so():
    values = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    found = hessian.largest_eigenvalue(lambda v: values * v, start(300), tolerance=1e-10, most=5)
    assert not found.converged
    assert found.products == 5
    assert found.residual > 1e-3
    assert abs(found.value - 1.0) < 0.2


def test_a_small_or_flat_hessian_is_no_special_case():
    one = hessian.largest_eigenvalue(lambda v: 3.0 * v, start(4), tolerance=1e-6, most=50)
    assert (one.converged, one.value) == (True, pytest.approx(3.0))
    flat = hessian.largest_eigenvalue(lambda v: 0.0 * v, start(4), tolerance=1e-6, most=50)
    assert (flat.converged, flat.value) == (True, 0.0)


def test_the_trace_is_that_of_the_dense_hessian_within_its_standard_error(surface, dense):
    values = hessian.trace_samples(surface.product, surface.weights, 300, torch.Generator().manual_seed(0))
    error = values.std() / 300**0.5
    assert abs(values.mean() - dense[0].trace()) < 3 * error
    # Hutchinson's variance with random signs: twice the squares off the diagonal.
    off = dense[0] - torch.diag(dense[0].diagonal())
    assert values.var().item() == pytest.approx(2 * off.square().sum().item(), rel=0.3)


class Bowl(nn.Module):
    """w A w / 2, whatever the batch: every quantity has a closed form."""

    def __init__(self, curvatures, at):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(at))
        self.curvatures = torch.tensor(curvatures, dtype=torch.float64)

    def forward(self, x):
        return (self.curvatures * self.w.square()).sum() / 2 + 0 * x[:, 0]


def bowl(curvatures, at, m=4):
    x = torch.zeros(3 * m, 1)
    batches = [Samples(x[i], x[i]) for i in torch.arange(3 * m).split(m)]
    return Surface(Bowl(curvatures, at), batches, lambda model, batch: model(batch.x))


def test_the_rise_of_one_step_is_that_along_the_gradient():
    surface, rho = bowl([1.0, 4.0], [1.0, 1.0]), 0.1
    g = torch.tensor([1.0, 4.0], dtype=torch.float64)
    eps = rho * g / g.norm()
    expected = (g @ eps + (torch.tensor([1.0, 4.0]) * eps.square()).sum() / 2).item()
    assert hessian.batch_rises(surface, surface.batches, rho, 1).tolist() == pytest.approx([expected] * 3)


def test_more_steps_find_the_maximum_on_the_ball():
    surface, rho = bowl([1.0, 4.0, 2.0], [0.3, 0.01, 0.1]), 0.5
    around = torch.linspace(0, 2 * torch.pi, 400, dtype=torch.float64)
    polar, turn = torch.meshgrid(around[:200], around, indexing="ij")
    points = torch.stack([polar.cos(), polar.sin() * turn.cos(), polar.sin() * turn.sin()], -1).reshape(-1, 3) * rho
    a, w = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64), surface.weights
    best = ((a * (w + points).square()).sum(1) / 2).max() - (a * w.square()).sum() / 2
    one = hessian.batch_rises(surface, surface.batches, rho, 1)[0]
    many = hessian.batch_rises(surface, surface.batches, rho, 50)[0]
    assert one < many
    assert many.item() == pytest.approx(best.item(), rel=1e-3)
    assert hessian.batch_rises(bowl([1.0], [0.0]), surface.batches, rho, 3)[0] == 0.0  # no gradient, nowhere to go


def test_the_rise_in_a_ball_is_half_rho_squared_times_the_trace_over_the_dimension():
    """The mean of x_i^2 over a ball of radius rho in N dimensions is rho^2 / (N + 2); the slope cancels."""
    n, rho = 6, 0.3
    surface = bowl([float(i) for i in range(n)], [5.0] * n)
    rises = hessian.ball_rises(surface, rho, 4000, torch.Generator().manual_seed(0))
    expected = rho**2 * sum(range(n)) / (2 * (n + 2))
    assert abs(rises.mean().item() - expected) < 3 * rises.std().item() / 4000**0.5
    assert rises.std().item() < expected  # without mirror images the slope alone would give ten times that


def test_the_weights_come_back_to_the_last_bit(surface):
    before = [p.clone() for p in surface.params]
    hessian.batch_rises(surface, surface.batches, 0.5, 2)
    with pytest.raises(RuntimeError), surface.at(torch.ones_like(surface.weights)):
        raise RuntimeError
    assert all(torch.equal(a, b) for a, b in zip(before, surface.params, strict=True))


def test_the_model_that_is_measured_is_left_alone(network):
    model, x, y = network
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    surface = Surface(model, [Samples(x, y)], squared)
    surface.product(start(len(surface)))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_filters_of_a_direction_are_as_long_as_those_of_the_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4))
    surface = Surface(model, [Samples(torch.randn(5, 2, 3, 3), torch.randn(5, 4))], squared)
    direction = landscape.filter_normalised(surface, torch.Generator().manual_seed(1))
    parts = direction.split([p.numel() for p in surface.params])
    for p, part in zip(surface.params, parts, strict=True):
        d = part.view_as(p)
        if p.dim() > 1:
            assert torch.allclose(d.flatten(1).norm(dim=1), p.flatten(1).norm(dim=1))
        else:
            assert not d.any()
    # A network and the same one with rescaled filters before a normalisation: the same plane, as its authors want.
    axis, losses = landscape.plane(surface, 3, 0.5, torch.Generator().manual_seed(1))
    assert axis == [-0.5, 0.0, 0.5]
    assert losses[1][1] == surface.loss()
    assert losses[1][2] == surface.loss(0.5 * direction)


def test_attention_and_convolutions_can_be_differentiated_twice():
    from sam_bench.models.images.fastnet import FastNet
    from sam_bench.models.images.vit import ViT

    torch.manual_seed(0)
    batch = Samples(torch.randn(4, 1, 8, 8), torch.zeros(4, 3))
    options = {"num_outputs": 3, "inputs": {"channels": 1, "size": 8}}
    for model in (
        FastNet(**options, widths=[4, 4, 4]),
        ViT(**options, patch=4, width=8, depth=1, heads=2),
    ):
        surface = Surface(model, [batch], lambda net, b: (net(b) - b.y).square().mean(1))
        v = start(len(surface))
        near = 1e-6 * v
        numeric = (surface.gradient(near) - surface.gradient(-near)) / 2e-6
        assert (surface.product(v) - numeric).norm() < 1e-4 * numeric.norm()
