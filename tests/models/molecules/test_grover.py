"""GROVER held against the published architecture, an independent reference, and its own symmetries."""

import math

import numpy as np
import pytest
import torch
from support.grover_reference import Reference
from torch.nn.functional import scaled_dot_product_attention

from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.datasets.molecules.packed import PackedMolecules
from sam_bench.errors import UsageError
from sam_bench.models.molecules import grover_block
from sam_bench.models.molecules.grover import Grover
from sam_bench.models.molecules.grover_block import attend, pass_messages, random_hops, weight_of_others
from sam_bench.models.molecules.grover_cache import project_in_cache
from sam_bench.models.molecules.grover_together import messages_together

SMILES = ["CCO", "C", "c1ccccc1C(=O)O", "[Na+].[Cl-]", "CC(C)(C)C", "C1CC1", "CC(=O)Oc1ccccc1C(=O)O"]


@pytest.fixture(scope="module")
def packed():
    return featurize(SMILES, cache_dir=None, progress=False)


@pytest.fixture(scope="module")
def described():
    return featurize(SMILES, cache_dir=None, progress=False, descriptors=True)


def every(packed):
    return MoleculeBatch(packed, torch.arange(len(packed)))


def build(packed, seed=0, **options):
    """A small model with all weights, gains and biases drawn at random, so that none hides at 0 or 1."""
    torch.manual_seed(seed)
    options = {"hidden": 8, "heads": 2, "head_hidden": 6} | options
    model = Grover(3, packed.inputs, **options)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.copy_(torch.rand_like(p) + 0.5)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 1},
        {"depth": 5, "blocks": 2},
        {"heads": 4, "head_layers": 3},
        {"readout": "self_attention", "attention_hidden": 3, "attention_out": 5},
    ],
)
def test_forward_values_equal_the_per_molecule_reference(described, options):
    described.scale_descriptors(torch.arange(4))
    model = build(described, **options).eval()
    batch = every(described)
    with torch.no_grad():
        ours = model(batch)
        exact = model.double()(double(batch))
    hops = options.get("depth", 3) - 1
    reference = Reference(model.state_dict(), model.atom_branch.blocks[0].heads, options.get("blocks", 1), hops)
    for graph in range(len(SMILES)):
        atoms, edges = batch.batch == graph, batch.batch[batch.src] == graph
        first = int(batch.first_atom[graph])
        truth = reference(
            batch.x[atoms].double().numpy(),
            batch.edge_attr[edges].double().numpy(),
            [(s - first, t - first) for s, t in batch.edge_index[:, edges].T.tolist()],
            batch.descriptors[graph].double().numpy(),
        )
        assert np.allclose(exact[:, graph].numpy(), truth, rtol=1e-6, atol=1e-6), SMILES[graph]
        assert np.allclose(ours[:, graph].numpy(), truth, rtol=1e-3, atol=1e-3), SMILES[graph]


def double(batch):
    """The same batch with its numbers in float64."""
    for name in ("x", "edge_attr", "descriptors"):
        if (value := getattr(batch, name)) is not None:
            setattr(batch, name, value.double())
    return batch


# Published sizes: the repository's modules, counted by hand with hidden h, k heads, a atom and b bond features.
def published_parts(h, k, a, b):
    block = {"messages": 3 * k * h * h, "attention": 3 * (h * h + h) + h * h, "join": k * h * h, "norm": 2 * h}
    feed = (a + h) * 4 * h + 4 * h + 4 * h * h + h
    return {
        "atom_branch": a * h + 2 * h + sum(block.values()) + feed + 2 * h,
        "bond_branch": (a + b) * h + 2 * h + sum(block.values()) + feed + 2 * h,
    }, block


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("hidden", "heads"), [(100, 4), (800, 4)])
def test_parameters_per_part_are_those_of_the_published_architecture(hidden, heads):
    inputs = {"atom_features": 151, "bond_features": 14, "descriptors": 200}
    with torch.device("meta"):
        model = Grover(1, inputs, hidden=hidden, heads=heads, head_hidden=200)
    parts, block = published_parts(hidden, heads, 151, 14)
    assert {name: count(getattr(model, name)) for name in parts} == parts
    ours = model.atom_branch.blocks[0]
    assert count(ours.hop) == block["messages"]
    assert count(ours.project) + ours.mix.numel() == block["attention"]
    assert ours.out.numel() == block["join"]
    assert count(model.heads) == 2 * ((hidden + 200) * 200 + 200 + 200 + 1)
    if hidden == 800:  # GROVER base: the paper says 48 million, with the two outputs into bonds that pretraining needs
        into_bonds = 2 * ((165 + hidden) * 4 * hidden + 4 * hidden + 4 * hidden * hidden + hidden + 2 * hidden)
        assert round((sum(parts.values()) + into_bonds) / 1e6) == 48


def permuted(packed, seed=0):
    """The same molecules with their atoms renumbered and their bonds in another order, turned round."""
    g = np.random.default_rng(seed)
    arrays = {
        "rows": packed.keep.numpy(),
        "too_large": np.zeros(0, dtype=np.int64),
        "odd_valence": np.zeros(0, dtype=np.int64),
        "atoms": packed.atoms.numpy(),
        "bonds": packed.edges.numpy() // 2,
        "atom_table": packed.atom_table.numpy(),
        "bond_table": packed.bond_table.numpy(),
        "atom_values": np.zeros((len(packed.atom_code), 0), np.float32),
        "distances": np.zeros(0, np.uint8),
        "descriptors": np.zeros((len(packed), 0), np.float32),
    }
    codes, bonds, ends = [], [], []
    first_atom = first_bond = 0
    for atoms, count_ in zip(arrays["atoms"], arrays["bonds"], strict=True):
        new = g.permutation(atoms)  # atom i becomes new[i]
        code = packed.atom_code[first_atom : first_atom + atoms].numpy()
        codes.append(code[np.argsort(new)])
        order = g.permutation(count_)
        old = packed.src.view(-1, 2)[first_bond : first_bond + count_].numpy()
        turned = np.where(g.random((count_, 1)) < 0.5, old, old[:, ::-1])
        ends.append(new[turned[order]].reshape(-1, 2))
        bonds.append(packed.bond_code[::2][first_bond : first_bond + count_].numpy()[order])
        first_atom, first_bond = first_atom + atoms, first_bond + count_
    arrays |= {"atom_code": np.concatenate(codes), "bond_code": np.concatenate(bonds), "ends": np.concatenate(ends)}
    return PackedMolecules(arrays, len(packed))


@pytest.mark.parametrize("readout", ["mean", "self_attention"])
def test_numbering_of_atoms_and_bonds_changes_nothing(packed, readout):
    model = build(packed, readout=readout).eval()
    other = every(permuted(packed))
    assert not torch.equal(other.x, every(packed).x)
    assert torch.allclose(model(every(packed)), model(other), atol=1e-5)


@pytest.mark.parametrize("readout", ["mean", "self_attention"])
def test_order_and_company_of_molecules_change_nothing(packed, readout):
    model = build(packed, readout=readout).eval()
    together = model(every(packed))
    order = torch.tensor([6, 2, 0, 5, 1, 3, 4])
    assert torch.allclose(model(MoleculeBatch(packed, order)), together[:, order], atol=1e-5)
    # Alone there is nothing to pad to: the largest molecule of a batch has no say in the others' values.
    alone = torch.cat([model(MoleculeBatch(packed, torch.tensor([i]))) for i in range(len(packed))], dim=1)
    assert torch.allclose(alone, together, atol=1e-5)


def side_by_side(parts):
    """3 x (N, k/3 * 8) -> (k, N, 8)."""
    return torch.cat([part.unflatten(1, (-1, 8)).transpose(0, 1) for part in parts])


def test_both_ways_of_passing_messages_agree_with_their_gradients(packed):
    batch = every(packed)
    for bags, rows in ((batch.atom_bags, batch.num_nodes), (batch.line_bags, batch.num_edges)):
        torch.manual_seed(0)
        shapes = [(rows, 8), (6, 8, 8), (3, 8, 8), (3, 8)]
        given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
        x, weights, weight, bias = given
        hops = [0, 2, 1, 0, 3, 1]
        fast = side_by_side(project_in_cache(x, weights.unbind(0), weight, bias, bags, hops))
        messages = pass_messages(x, weights, bags, hops, lambda m, _: torch.relu(m)).view(3, -1, 8)
        wide = torch.baddbmm(bias[:, None], messages, weight.transpose(1, 2)).view_as(fast)
        assert torch.allclose(fast, wide)
        flow = torch.randn_like(fast)
        for one, two in zip(
            torch.autograd.grad(fast, given, flow), torch.autograd.grad(wide, given, flow), strict=True
        ):
            assert torch.allclose(one, two)


@pytest.mark.parametrize("hops", [[2, 0, 3, 1, 2, 2], [0] * 6, [1] * 6, [4, 0, 0, 0, 0, 0]])
def test_the_messages_of_a_gpu_are_the_same_with_their_first_and_second_derivatives(hops, packed):
    bags, rows = (batch := every(packed)).atom_bags, batch.num_nodes
    torch.manual_seed(0)
    x, *matrices = given = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(rows, 4), *[(4, 4)] * len(hops)]
    ]

    def slowly(x, matrices):
        return pass_messages(x, matrices, bags, hops, lambda m, _: torch.relu(m))

    found, expected = messages_together(x, matrices, bags, hops, slowly), slowly(x, matrices)
    assert torch.equal(found, expected)
    flow, options = torch.randn_like(found), {"allow_unused": True, "materialize_grads": True}
    for one, two in zip(*(torch.autograd.grad(out, given, flow, **options) for out in (found, expected)), strict=True):
        assert torch.allclose(one, two, rtol=1e-12, atol=1e-12)
    products = []
    for out in (messages_together(x, matrices, bags, hops, slowly), slowly(x, matrices)):
        slope = torch.autograd.grad(out.square().sum(), given, create_graph=True, **options)
        products.append(torch.autograd.grad(sum(s.square().sum() for s in slope), given, **options))
    for one, two in zip(*products, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("heads", "rows", "width"), [(3, 5, 4), (1, 2, 3), (8, 2, 1)])
def test_attention_is_the_library_s_for_each_slice(heads, rows, width):
    torch.manual_seed(0)
    parts = [torch.randn(rows, heads, heads, width, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    apart = weight_of_others(heads, parts[0])
    found = attend(*(part.flatten(1) for part in parts), heads, lambda p: p, apart).view_as(parts[0])
    for row in range(rows):
        for place in range(heads):
            query, key, value = (part[row, :, place] for part in parts)
            expected = scaled_dot_product_attention(query[None], key[None], value[None])[0]
            assert torch.allclose(found[row, :, place], expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *p: attend(*(t.flatten(1) for t in p), heads, lambda p: p, apart), parts)


def test_both_ways_of_passing_messages_agree_when_differentiated_twice(packed):
    batch = every(packed)
    torch.manual_seed(0)
    for dtype, close in ((torch.float64, 1e-10), (torch.float32, 1e-3)):
        shapes = [(batch.num_edges, 8), (6, 8, 8), (3, 8, 8), (3, 8)]
        given = [(torch.randn(shape) / 3).to(dtype).requires_grad_() for shape in shapes]
        x, weights, weight, bias = given
        hops, bags = [0, 2, 1, 0, 3, 1], batch.line_bags
        fast = side_by_side(project_in_cache(x, weights.unbind(0), weight, bias, bags, hops))
        messages = pass_messages(x, weights, bags, hops, lambda m, _: torch.relu(m)).view(3, -1, 8)
        wide = torch.baddbmm(bias[:, None], messages, weight.transpose(1, 2)).view_as(fast)
        v = [torch.randn_like(t) for t in given]

        def product(out, given=given, v=v):
            slope = torch.autograd.grad(out.square().sum(), given, create_graph=True)
            return torch.autograd.grad(sum((s * d).sum() for s, d in zip(slope, v, strict=True)), given)

        for one, two in zip(product(fast), product(wide), strict=True):
            assert (one - two).norm() <= close * two.norm()


@pytest.mark.parametrize("readout", ["mean", "self_attention"])
def test_hessian_products_equal_finite_differences_of_gradients(packed, readout):
    model = build(packed, hidden=4, head_hidden=4, readout=readout).double().eval()
    batch, params = double(MoleculeBatch(packed, torch.tensor([2, 3]))), list(model.parameters())
    gradient = lambda **options: torch.autograd.grad((model(batch) ** 2).sum(), params, **options)  # noqa: E731
    v = [torch.randn_like(p) for p in params]
    along = sum((g * d).sum() for g, d in zip(gradient(create_graph=True), v, strict=True))
    exact = torch.cat([h.reshape(-1) for h in torch.autograd.grad(along, params, materialize_grads=True)])
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            torch._foreach_add_(params, v, alpha=step)
            with torch.enable_grad():
                ends.append(torch.cat([g.reshape(-1) for g in gradient()]))
    assert (exact - (ends[0] - ends[1]) / 2e-6).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("activation", ["relu", "prelu", "tanh"])
def test_gradients_equal_finite_differences(packed, activation):
    model = build(packed, hidden=4, head_hidden=4, activation=activation, readout="self_attention").double().eval()
    batch = double(MoleculeBatch(packed, torch.tensor([2, 3])))
    value = lambda: (model(batch) ** 2).sum()  # noqa: E731
    value().backward()
    for name, p in model.named_parameters():
        direction = torch.randn_like(p)
        with torch.no_grad():
            p += 1e-6 * direction
            above = value()
            p -= 2e-6 * direction
            below = value()
            p += 1e-6 * direction
        slope = float((above - below) / 2e-6)
        assert float((p.grad * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def test_random_hops_follow_the_truncated_normal():
    torch.manual_seed(0)
    hops = torch.tensor(random_hops(3, 200_000))
    cdf = lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2)))  # noqa: E731
    inside = cdf(3) - cdf(-3)
    expected = [(cdf(-1) - cdf(-3)) / inside] + [(cdf(i) - cdf(i - 1)) / inside for i in range(4)]
    assert hops.min() == 0
    assert hops.max() == 4
    for value, share in enumerate(expected[:1] + expected[1:]):
        assert (hops == value).float().mean() == pytest.approx(share, abs=0.005), value


def test_training_draws_depths_from_the_global_generator(packed):
    model = build(packed, dropout=0.3).train()

    def outputs(seed, count=3):
        torch.manual_seed(seed)
        return torch.stack([model(every(packed)) for _ in range(count)])

    first = outputs(1)
    assert torch.equal(first, outputs(1))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, outputs(2))


def test_evaluation_draws_nothing(packed):
    model = build(packed, dropout=0.3).eval()
    state = torch.get_rng_state()
    assert torch.equal(model(every(packed)), model(every(packed)))
    assert torch.equal(state, torch.get_rng_state())


def test_training_gives_the_same_bits_twice(packed):
    def weights(seed):
        model = build(packed, seed, hidden=16)
        base = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(5):
            base.zero_grad()
            model(every(packed)).square().mean().backward()
            base.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(0), weights(0))


def test_every_parameter_gets_a_gradient(packed):
    for options in ({}, {"activation": "prelu", "blocks": 2}, {"readout": "self_attention"}):
        model = build(packed, **options)
        torch.manual_seed(3)
        sum(model(every(packed)).square().sum() for _ in range(3)).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def learning(model, packed):
    """The parameters that get a gradient from the sum of a fresh model's outputs."""
    model(every(packed)).sum().backward()
    return {n for n, p in model.named_parameters() if p.grad.any()}


def test_a_fresh_model_can_learn_without_descriptors(packed):
    torch.manual_seed(0)
    model = Grover(1, packed.inputs, hidden=8, head_hidden=8)
    assert {n for n, _ in model.named_parameters() if "heads" in n} <= learning(model, packed)


def test_the_published_initialisation_leaves_two_biases_to_learn_without_descriptors(packed):
    with pytest.warns(UserWarning, match="predicts one number for all molecules"):
        model = Grover(1, packed.inputs, hidden=8, head_hidden=8, init="published")
    assert not any(p.any() for p in model.parameters() if p.dim() == 1)
    assert all(p.any() for p in model.parameters() if p.dim() == 2)
    assert learning(model, packed) == {"heads.0.4.bias", "heads.1.4.bias"}


def test_the_published_initialisation_with_descriptors_starts_at_the_heads_and_the_last_norms(described, recwarn):
    torch.manual_seed(0)
    model = Grover(1, described.inputs, hidden=8, head_hidden=8, init="published")
    assert not recwarn
    norms = {f"{branch}_branch.norm.{part}" for branch in ("atom", "bond") for part in ("weight", "bias")}
    assert learning(model, described) == norms | {n for n, _ in model.named_parameters() if n.startswith("heads")}


def test_the_initialisations_draw_the_same_matrices(described):
    models = []
    for init in ("library", "published"):
        torch.manual_seed(0)
        models.append(Grover(1, described.inputs, hidden=8, head_hidden=8, init=init))
    for ours, published in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert ours.dim() == 1 or torch.equal(ours, published)


def test_bf16_stays_near_fp32(packed):
    model = build(packed, hidden=32, heads=4).eval()
    exact = model(every(packed))
    with torch.autocast("cpu", torch.bfloat16):
        near = model(every(packed))
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.05 * exact.abs().max()


def test_options_that_cannot_work_say_so(packed):
    with pytest.raises(UsageError, match="not a multiple"):
        Grover(1, packed.inputs, hidden=10, heads=4)
    with pytest.raises(UsageError, match="self_attention"):
        Grover(1, packed.inputs, readout="selfattention")
    with pytest.raises(UsageError, match="Did you mean 'relu' or 'prelu'"):
        Grover(1, packed.inputs, activation="rely")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu_twice_the_same_and_without_synchronisation(packed):
    model = build(packed, hidden=16).eval()
    here = model(every(packed))
    model.cuda().train()
    moved = packed.to("cuda")

    def gradient():
        torch.manual_seed(0)
        model.zero_grad()
        torch.cuda.set_sync_debug_mode("error")
        try:
            out = model(every(moved))
            out.square().sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    assert torch.equal(gradient(), gradient())
    assert torch.allclose(model.eval()(every(moved)).cpu(), here, atol=1e-3)


def test_the_slow_path_is_only_taken_when_needed(packed, monkeypatch):
    calls = []
    monkeypatch.setattr(grover_block, "pass_messages", lambda *a: (calls.append(1), pass_messages(*a))[1])
    build(packed).train()(every(packed))
    assert not calls
    build(packed, dropout=0.1).train()(every(packed))
    build(packed, activation="tanh").eval()(every(packed))
    assert len(calls) == 4
