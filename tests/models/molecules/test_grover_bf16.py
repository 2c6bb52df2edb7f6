"""GROVER in bf16 on a CPU: padding changes nothing, products stay near float64, the same seed gives the same bits."""

import pytest
import torch

from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.models.molecules import grover
from sam_bench.models.molecules.grover import Grover
from sam_bench.models.molecules.grover_cache import project_in_cache
from sam_bench.models.molecules.padded import PaddedBatch, rounded

SMILES = ["CCO", "C", "c1ccccc1C(=O)O", "[Na+].[Cl-]", "CC(C)(C)C", "C1CC1", "CC(=O)Oc1ccccc1C(=O)O"]


@pytest.fixture(scope="module")
def batch():
    return MoleculeBatch(featurize(SMILES, cache_dir=None, progress=False), torch.arange(len(SMILES)))


def build(batch, readout="mean", **options):
    torch.manual_seed(0)
    options = {"hidden": 16, "head_hidden": 8} | options
    return Grover(3, batch.packed.inputs, readout=readout, **options)


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_rounding_wastes_little_and_leaves_few_shapes():
    sizes = [rounded(n) for n in range(512, 2049)]
    assert len(set(sizes)) <= 34
    assert all(0 <= size - n <= n / 8 for n, size in zip(range(512, 2049), sizes, strict=True))
    assert [rounded(n) for n in (0, 1, 32, 33)] == [0, 32, 32, 64]


@pytest.mark.parametrize("readout", ["mean", "self_attention"])
def test_padding_changes_no_output_and_no_gradient(batch, readout, monkeypatch):
    model = build(batch, readout).double()
    for name in ("x", "edge_attr"):
        setattr(batch, name, getattr(batch, name).double())
    found = []
    for pays in (False, True):
        monkeypatch.setattr(grover, "pays", lambda device, pays=pays: pays)
        torch.manual_seed(1)
        model.zero_grad()
        out = model(batch)
        out.square().sum().backward()
        found.append((out.detach(), gradient(model)))
    assert len(PaddedBatch(batch, readout).x) > len(batch.x)
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-12, atol=1e-12)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-10, atol=1e-10)


def test_messages_and_their_gradients_stay_near_float64(batch):
    bags, rows = batch.line_bags, batch.num_edges
    torch.manual_seed(0)
    shapes = [(rows, 32), (6, 32, 32), (3, 32, 32), (3, 32)]
    exact = [torch.randn(shape, dtype=torch.float64) / 4 for shape in shapes]
    flow, found = torch.randn(rows, 6 * 32), []
    for dtype, bf16 in ((torch.float64, False), (torch.float32, True)):
        given = [t.to(dtype).requires_grad_() for t in exact]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            x, weights, *projection = given
            out = torch.cat(project_in_cache(x, weights.unbind(0), *projection, bags, [0, 2, 1, 0, 3, 1]), 1)
        assert out.dtype == dtype
        found.append([out, *torch.autograd.grad(out, given, flow.to(dtype))])
    for i, (one, two) in enumerate(zip(*found, strict=True)):
        # rounding turns some ReLUs, about a hundredth: that is a tenth of a gradient's norm
        assert (one - two).norm() < (0.1 if i else 0.02) * one.norm()


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_seed_gives_the_same_bits(batch, bf16):
    def weights():
        model = build(batch, hidden=32)
        base = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(4):
            base.zero_grad()
            part = batch.select(torch.arange(step, 7))  # another shape in every step
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out = model(part)
            out.square().mean().backward()
            base.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights()
    assert first.isfinite().all()
    assert torch.equal(first, weights())


def test_a_batch_without_a_bond(batch):
    model = build(batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(batch.select(torch.tensor([1, 3])))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
