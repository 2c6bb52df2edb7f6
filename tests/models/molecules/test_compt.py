"""CoMPT held against the published formulas, one molecule at a time with a key for every pair of atoms."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import mish

from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.errors import UsageError
from sam_bench.models.molecules.compt import Compt

SMILES = ["CCO", "C", "c1ccccc1C(=O)O", "[Na+].[Cl-]", "CC(C)(C)C", "C1CC1"]


@pytest.fixture(scope="module")
def packed():
    return featurize(SMILES, cache_dir=None, progress=False, features="compt")


def every(packed):
    return MoleculeBatch(packed, torch.arange(len(packed)))


def build(packed, **options):
    torch.manual_seed(0)
    model = Compt(2, packed.inputs, **{"hidden": 8, "heads": 2, "layers": 2} | options)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() <= 1:
                p.copy_(torch.rand_like(p) + 0.5)
    return model.eval()


def reference(model, x, bonds, edges, distance, options):
    """The published forward pass of one molecule, in float64: x (A, 115), bonds (E, 13), distance (A, A)."""
    atoms, d = len(x), model.atoms.out_features
    features = torch.zeros(atoms, atoms, bonds.shape[1], dtype=torch.float64)
    for e, (u, v) in enumerate(edges):
        features[u, v] = bonds[e]
    x = model.atoms(x) * math.sqrt(d) + model.position(torch.arange(atoms))
    pairs = model.bonds(features) * math.sqrt(d)
    for layer in model.layers:
        x = layer.norm(x)
        heads, width = layer.heads, d // layer.heads
        query, value = (f(x).view(atoms, heads, width) for f in (layer.query, layer.value))
        key = layer.key(pairs).view(atoms, atoms, heads, width)
        outwards = torch.einsum("mhd,mnhd->hmn", query, key) / math.sqrt(width)
        inwards = torch.einsum("nhd,mnhd->hnm", query, key) / math.sqrt(width)
        outwards, inwards = outwards.softmax(-1), inwards.softmax(-1)
        both = outwards + inwards - torch.diag_embed(torch.diagonal(outwards, dim1=1, dim2=2))
        damped = -layer.damping * distance
        weight = damped.softmax(-1) if options.get("kernel") == "softmax" else damped.exp()
        y = torch.einsum("hmn,nhd->mhd", both * weight, value).reshape(atoms, d)
        first = x + layer.norm(mish(layer.out(y)))
        second = first
        for feed in layer.feed:
            second = mish(feed(second))
        x = x + first + layer.norm(second)
    x = model.norm(x)
    if model.readout is not None:
        start = mish(x + model.readout.shift).max(0).values.expand(2, 1, d).contiguous()
        x = mish(model.readout.out(model.readout.gru(x[None], start)[0][0]))
    return model.head(x.mean(0))


def distance_of(batch, graph):
    """(longest, longest) of one molecule, wherever it lies among the blocks."""
    (found,) = [b.distance[(b.molecules == graph).nonzero().item()] for b in batch.blocks if graph in b.molecules]
    return found


@pytest.mark.parametrize(
    "options", [{}, {"kernel": "softmax", "scale_norm": True}, {"readout": "mean", "feed_layers": 2}]
)
def test_forward_values_equal_the_published_formulas(packed, options):
    model = build(packed, **options)
    batch = every(packed)
    with torch.no_grad():
        ours = model(batch)
        model.double()
        for graph in range(len(SMILES)):
            atoms, edges = batch.batch == graph, batch.batch[batch.src] == graph
            first, size = int(batch.first_atom[graph]), int(atoms.sum())
            distance = distance_of(batch, graph)[:size, :size].double().nan_to_num(posinf=1e8)
            pairs = [(s - first, t - first) for s, t in batch.edge_index[:, edges].T.tolist()]
            parts = batch.x[atoms].double(), batch.edge_attr[edges].double(), pairs, distance
            truth = reference(model, *parts, options)
            assert torch.allclose(ours[graph].double(), truth, rtol=1e-3, atol=1e-3), SMILES[graph]


def test_distances_are_those_of_rdkit(packed):
    batch = MoleculeBatch(packed, torch.tensor([2, 3, 0]))
    (block,) = batch.blocks
    assert block.distance.shape == (3, 9, 9)
    from rdkit import Chem

    truth = Chem.GetDistanceMatrix(Chem.MolFromSmiles(SMILES[2]))
    assert np.array_equal(block.distance[0].numpy(), truth)
    salt = block.distance[1]
    assert salt[0, 0] == 0
    assert salt[0, 1:].isinf().all()
    assert (salt[2:] == 0).all()


def test_company_changes_nothing(packed):
    model = build(packed)
    together = model(every(packed))
    alone = torch.cat([model(MoleculeBatch(packed, torch.tensor([i]))) for i in range(len(packed))])
    assert torch.allclose(alone, together, atol=1e-5)
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    assert torch.allclose(model(MoleculeBatch(packed, order)), together[order], atol=1e-5)


def test_molecules_of_many_sizes_lie_in_blocks_of_like_size():
    """From one atom to beyond two sizes of block, in an order that mixes them: as each molecule gives alone."""
    sizes = [40, 1, 70, 33, 32, 2, 130, 64]
    packed = featurize(["C" * n for n in sizes[:-1]] + ["c1ccccc1" * 10 + "CCCC"], cache_dir=None, progress=False,
                       features="compt")  # fmt: skip
    batch = every(packed)
    assert [block.largest for block in batch.blocks] == [32, 64, 70, 130]
    assert sorted(torch.cat([block.molecules for block in batch.blocks]).tolist()) == list(range(8))
    for kernel in ("exp", "softmax"):
        model = build(packed, kernel=kernel)
        alone = torch.cat([model(MoleculeBatch(packed, torch.tensor([i]))) for i in range(len(packed))])
        assert torch.allclose(alone, model(batch), rtol=1e-4, atol=1e-4)
        model.train()

        def gradient(indices, model=model):
            model.zero_grad()
            for index in indices:
                model(MoleculeBatch(packed, torch.tensor(index))).square().sum().backward()
            return torch.cat([p.grad.flatten() for p in model.parameters()])

        one_by_one, together = gradient([[i] for i in range(8)]), gradient([list(range(8))])
        assert (one_by_one - together).norm() < 1e-4 * together.norm()
        assert torch.equal(together, gradient([list(range(8))]))


def test_parameters_are_the_published_ones_that_are_used(packed):
    """Counted from the published modules, less the update of the bonds and the position of padding."""
    d, layers, longest = 256, 4, packed.inputs["max_atoms"]
    square = d * d + d
    layer = 4 * square + 1 + square + 2 * d
    gru = 2 * (3 * d * d * 2 + 6 * d) + 2 * d * d + d + d
    total = 115 * d + d + 13 * d + d + longest * d + layers * layer + 2 * d + gru + square + 2 * d + d + 1
    model = Compt(1, packed.inputs)
    assert sum(p.numel() for p in model.parameters()) == total


def test_every_parameter_gets_a_finite_gradient(packed):
    for options in ({}, {"kernel": "softmax", "scale_norm": True, "feed_layers": 2}):
        model = build(packed, **options).train()
        model(every(packed)).square().sum().backward()
        bad = [
            n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
        ]
        assert bad == []


def test_training_gives_the_same_bits_twice(packed):
    def gradient():
        model = build(packed, dropout=0.2).train()
        torch.manual_seed(1)
        model(every(packed)).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    assert torch.equal(gradient(), gradient())


def test_bf16_stays_near_fp32(packed):
    model = build(packed, hidden=32)
    with torch.autocast("cpu", torch.bfloat16):
        near = model(every(packed))
    exact = model(every(packed))
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.05 * exact.abs().max()


def test_what_cannot_work_says_so(packed):
    with pytest.raises(UsageError, match=r"dataset\.features=compt"):
        Compt(1, packed.inputs | {"distances": 0})
    with pytest.raises(UsageError, match="Did you mean 'exp'"):
        Compt(1, packed.inputs, kernel="exb")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu_and_twice_the_same(packed):
    model = build(packed)
    here = model(every(packed))
    moved = packed.to("cuda")
    model.cuda()
    assert torch.allclose(model(every(moved)).cpu(), here, atol=1e-3)
    model.train()

    def gradient():
        model.zero_grad()
        model(every(moved)).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    assert torch.equal(gradient(), gradient())
