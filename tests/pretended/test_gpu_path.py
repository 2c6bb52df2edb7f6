"""The code that only a GPU runs, on a pretended one: it computes what the CPU does; what a GPU refuses is refused."""

import pytest
import torch
from support import pretended

from sam_bench.contract.problem import net
from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.models.molecules.compt import Compt
from sam_bench.models.molecules.grover import Grover
from sam_bench.optim.vector import Vector

SMILES = ["CCO", "c1ccccc1C(=O)O", "C", "[Na+].[Cl-]", "CC(C)(C)C"]
NAMES = ("x", "edge_attr", "edge_index", "batch", "position", "atom_bags", "in_bags", "line_bags", "out_bags",
         "graph_bags", "dense_mask", "dense_bags", "block_bags", "blocks", "in_time", "descriptors")  # fmt: skip


@pytest.fixture(scope="module")
def packed():
    return featurize(SMILES, cache_dir=None, progress=False, features="compt")


def parts(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [part for one in value for part in parts(one)] if isinstance(value, tuple) else []


def test_a_batch_is_that_of_the_cpu_and_comes_in_one_copy(packed, monkeypatch):
    index = torch.tensor([4, 1, 0, 2, 1])
    with pretended.gpu(monkeypatch) as counts:
        moved = packed.to(pretended.GPU)
        for _ in range(2):
            counts.clear()
            there = MoleculeBatch(moved, index)
            found = {name: parts(getattr(there, name)) for name in NAMES}
        here = MoleculeBatch(packed, index)
        for name in NAMES:
            truth = parts(getattr(here, name))
            assert len(found[name]) == len(truth)
            for one, two in zip(found[name], truth, strict=True):
                assert one.is_cuda
                assert one.dtype == two.dtype
                assert torch.equal(one.held, two), name
    assert counts.copies.total() == 1, counts.copies
    assert not counts.waits


@pytest.mark.parametrize("kind", [Grover, Compt])
def test_values_and_gradients_are_those_of_the_cpu(kind, packed, monkeypatch):
    """In training as in evaluation, where the gradient is also differentiated: sharpness does that."""
    torch.manual_seed(0)
    model = kind(2, packed.inputs, hidden=8, heads=2).double()
    index, found = torch.arange(len(SMILES)), []
    with pretended.gpu(monkeypatch):
        for device in (torch.device("cpu"), pretended.GPU):
            model, batch = model.to(device), MoleculeBatch(packed.to(device), index)
            for name in ("x", "edge_attr"):
                vars(batch)[name] = getattr(batch, name).double()
            params = list(model.parameters())
            torch.manual_seed(1)
            model.train()(batch).square().sum().backward()
            gradient = [p.grad.cpu() for p in params]
            slope = torch.autograd.grad(model.eval()(batch).square().sum(), params, create_graph=True)
            again = torch.autograd.grad(sum(s.square().sum() for s in slope), params, materialize_grads=True)
            found.append([*gradient, *(g.detach().cpu() for g in again)])
            model.zero_grad()
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-9)


def test_what_a_gpu_refuses_is_refused(monkeypatch):
    with pretended.gpu(monkeypatch):
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        for mistake in (lambda: there + here, lambda: torch.stack([there[0], here[0]]), lambda: net().to("cuda")(here)):
            with pytest.raises(RuntimeError, match="same device"):
                mistake()
        with pytest.raises(TypeError):
            there.numpy()
        assert (there + 1).is_cuda
        assert (there + torch.tensor(1.0)).is_cuda  # one number goes along with a launch
        assert not here.is_cuda


@pytest.mark.parametrize(
    ("ask", "waits"),
    [
        (lambda x: x.item() if x.ndim == 0 else x.sum().item(), 1),
        (lambda x: bool(x.sum() > 0), 1),
        (lambda x: x[[0, 2]], 1),
        (lambda x: x[torch.tensor([0, 2])], 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: torch.ones(3).to(x.device), 1),
        (lambda x: torch.tensor([1.0], device=x.device), 1),
        (lambda x: torch.ones(3).to(x.device, non_blocking=True), 0),
        (lambda x: x[1:].mean() + x[0], 0),
        (lambda x: x[x.argsort()], 0),
        (lambda x: Vector([x, x]).dots(Vector([x, 2 * x])), 0),
    ],
)
def test_waits_are_seen(ask, waits, monkeypatch):
    with pretended.gpu(monkeypatch) as counts:
        x = torch.arange(3.0, device="cuda")
        ask(x)
    assert counts.waits.total() == waits, counts.waits


def test_launches_are_counted(monkeypatch):
    with pretended.gpu(monkeypatch) as counts:
        x = torch.ones(4, 4, device="cuda", requires_grad=True)
        counts.clear()
        y = (x.view(2, 8).t() * 2).sum()  # a product, a sum; views take none
        assert counts.launches.total() == 2
        y.backward()
        assert x.grad.held.eq(2).all()
        counts.clear()
        torch._foreach_add_([torch.ones(2, device="cuda") for _ in range(200)], 1.0)
    assert counts.launches.total() == 200 + 2
