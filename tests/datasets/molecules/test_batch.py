"""Batches: what they hold, that they are made by indexing, and that their bags are the relations they claim to be."""

import pytest
import torch

from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize

SMILES = ["CCO", "C", "c1ccccc1C(=O)O", "[Na+].[Cl-]", "CC(C)(C)C", "C1CC1"]


@pytest.fixture(scope="module")
def packed():
    return featurize(SMILES, cache_dir=None, progress=False)


def dense(index, start, columns):
    """The bags as a matrix: entry (r, c) counts how often row c is summed into row r."""
    stop = torch.cat([start[1:], torch.tensor([len(index)])])
    matrix = torch.zeros(len(start), columns, dtype=torch.int64)
    for row, (a, b) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        for column in index[a:b].tolist():
            matrix[row, column] += 1
    return matrix


def test_sizes_and_order(packed):
    batch = MoleculeBatch(packed, torch.tensor([2, 0, 1]))
    assert len(batch) == batch.num_graphs == 3
    assert batch.batch.tolist() == [0] * 9 + [1] * 3 + [2]
    assert batch.position.tolist() == [*range(9), 0, 1, 2, 0]
    assert batch.x.shape == (13, 151)
    assert batch.edge_attr.shape == (2 * (9 + 2), 14)
    assert torch.equal(batch.x[9:12], MoleculeBatch(packed, torch.tensor([0])).x)
    assert batch.batch[batch.src].tolist() == batch.batch[batch.dst].tolist()


def test_edges_come_in_pairs_that_are_each_others_reverse(packed):
    batch = MoleculeBatch(packed, torch.arange(len(packed)))
    reverse = torch.arange(batch.num_edges) ^ 1
    assert torch.equal(batch.src[reverse], batch.dst)
    assert torch.equal(batch.edge_attr[reverse], batch.edge_attr)


def test_bags_are_the_relations_and_their_transposes(packed):
    batch = MoleculeBatch(packed, torch.tensor([4, 2, 5, 1, 0, 2]))
    src, dst, atoms, edges = batch.src, batch.dst, batch.num_nodes, batch.num_edges
    adjacent = torch.zeros(atoms, atoms, dtype=torch.int64)
    adjacent[dst, src] = 1
    incoming = torch.zeros(atoms, edges, dtype=torch.int64)
    incoming[dst, torch.arange(edges)] = 1
    leads_into = (dst[None, :] == src[:, None]).long()
    leads_into[torch.arange(edges), torch.arange(edges) ^ 1] = 0
    for bags, truth in ((batch.atom_bags, adjacent), (batch.in_bags, incoming), (batch.line_bags, leads_into)):
        assert torch.equal(dense(bags.index, bags.start, truth.shape[1]), truth)
        assert torch.equal(dense(bags.index_t, bags.start_t, truth.shape[0]), truth.T)


def test_nothing_is_made_for_a_model_that_does_not_ask(packed):
    batch = MoleculeBatch(packed, torch.tensor([0, 2]))
    assert not {"x", "edge_attr", "line_bags", "atom_bags", "in_bags", "batch"} & set(vars(batch))
    assert batch.edge_index.shape == (2, 2 * (2 + 9))
    assert not {"x", "edge_attr", "line_bags", "atom_bags", "in_bags"} & set(vars(batch))


def test_select_is_collate_of_the_chosen_ones(packed):
    batch = MoleculeBatch(packed, torch.tensor([5, 3, 0]))
    batch.y = torch.tensor([[5.0], [3.0], [0.0]])
    part = batch.select(torch.tensor([2, 0]))
    assert part.y.tolist() == [[0.0], [5.0]]
    assert torch.equal(part.x, MoleculeBatch(packed, torch.tensor([0, 5])).x)


def test_molecules_without_bonds(packed):
    batch = MoleculeBatch(packed, torch.tensor([1, 3]))
    assert batch.num_edges == 0
    assert batch.edge_index.shape == (2, 0)
    assert batch.atom_bags.start.tolist() == [0, 0, 0]
    assert len(batch.line_bags.index) == 0


def test_collate_runs_no_python_per_molecule(packed, monkeypatch):
    calls = []
    real = torch.Tensor.__getitem__
    monkeypatch.setattr(torch.Tensor, "__getitem__", lambda *a: (calls.append(1), real(*a))[1])
    counts = []
    for n in (2, 2000):
        calls.clear()
        batch = MoleculeBatch(packed, torch.randint(len(packed), (n,)))
        _ = batch.x, batch.edge_attr, batch.atom_bags, batch.line_bags, batch.batch
        counts.append(len(calls))
    assert counts[0] == counts[1]


def test_to_the_same_device_is_the_same_batch(packed):
    batch = MoleculeBatch(packed, torch.tensor([2, 4]))
    batch.y = torch.ones(2, 1)
    moved = batch.to("cpu")
    assert torch.equal(moved.x, batch.x)
    assert torch.equal(moved.y, batch.y)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_the_gpu_are_those_of_the_cpu_without_synchronisation(packed):
    moved = packed.to("cuda")
    index = torch.tensor([4, 2, 5, 1, 0, 2])
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = MoleculeBatch(moved, index)
        parts = [batch.x, batch.edge_attr, batch.edge_index, batch.batch]
        parts += [*batch.atom_bags, *batch.in_bags, *batch.line_bags]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    here = MoleculeBatch(packed, index)
    truth = [here.x, here.edge_attr, here.edge_index, here.batch, *here.atom_bags, *here.in_bags, *here.line_bags]
    for one, two in zip(parts, truth, strict=True):
        assert torch.equal(one.cpu(), two)
