"""Any torch_geometric model plugs in: our batch is one of its batches, and a YAML is all a model needs."""

import hydra
import pytest
import torch
import yaml
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINEConv, global_add_pool, global_max_pool, global_mean_pool
from torch_geometric.nn.models import GAT, GIN

from sam_bench.config import files
from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.errors import UsageError
from sam_bench.models.molecules.gine import Gine, GineLayer
from sam_bench.models.molecules.pyg import ATOM_CATEGORIES, POOLS, Encoder, GraphModel

SMILES = ["CCO", "C", "c1ccccc1C(=O)O", "[Na+].[Cl-]", "CC(C)(C)C", "C1CC1"]


@pytest.fixture(scope="module", params=["grover", "ogb"])
def packed(request):
    return featurize(SMILES, cache_dir=None, progress=False, features=request.param)


def every(packed):
    return MoleculeBatch(packed, torch.arange(len(packed)))


def as_pyg(batch):
    """The same molecules in torch_geometric's own Batch, one Data each."""
    graphs = []
    for i in range(batch.num_graphs):
        atoms, edges = batch.batch == i, batch.batch[batch.src] == i
        index = batch.edge_index[:, edges] - batch.first_atom[i]
        graphs.append(Data(batch.x[atoms], index, batch.edge_attr[edges], y=batch.y[i : i + 1]))
    return Batch.from_data_list(graphs)


def test_a_batch_offers_what_torch_geometrics_does(packed):
    ours = every(packed)
    ours.y = torch.arange(len(packed)).float()[:, None]
    theirs = as_pyg(ours)
    for name in ("x", "edge_index", "edge_attr", "batch", "y"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.num_graphs == theirs.num_graphs
    assert ours.num_nodes == theirs.num_nodes
    assert ours.num_edges == theirs.num_edges


def test_an_unmodified_model_takes_the_batch(packed):
    net = GIN(packed.inputs["atom_features"], 8, 2)
    batch = every(packed)
    assert net(batch.x.float(), batch.edge_index, batch=batch.batch).shape == (batch.num_nodes, 8)


NETS = {
    "GIN": {"hidden_channels": 8, "num_layers": 2},
    "GCN": {"hidden_channels": 8, "num_layers": 2},
    "GraphSAGE": {"hidden_channels": 8, "num_layers": 2, "out_channels": 5},
    "GAT": {"hidden_channels": 8, "num_layers": 2, "heads": 2},
    "AttentiveFP": {"hidden_channels": 8, "num_layers": 2, "num_timesteps": 2},
}


@pytest.mark.parametrize("name", NETS)
def test_a_yaml_alone_adds_a_model(packed, name, tmp_path):
    text = {
        "_target_": "sam_bench.models.pyg.GraphModel",
        "hidden": 8,
        "pool": None if name == "AttentiveFP" else "mean",
        "net": {"_target_": f"torch_geometric.nn.models.{name}", "_partial_": True, **NETS[name]},
    }
    config = yaml.safe_load(yaml.safe_dump(text))
    model = hydra.utils.instantiate(config, num_outputs=3, inputs=packed.inputs)
    batch = every(packed)
    output = model(batch)
    assert output.shape == (len(SMILES), 3)
    output.square().sum().backward()
    reads_bonds = name in ("GAT", "AttentiveFP")
    assert (model.bonds is not None) == reads_bonds
    assert ("edge_attr" in vars(batch)) == reads_bonds
    if reads_bonds:
        assert any(p.grad is not None and p.grad.any() for p in model.bonds.parameters())


@pytest.mark.parametrize("name", ["gine", "attentive_fp"])
def test_shipped_models_learn(name):
    config = yaml.safe_load((files.config_dir() / "model" / f"{name}.yaml").read_text())
    del config["accepts"]
    packed = featurize(SMILES, cache_dir=None, progress=False, features=config.pop("features"))
    torch.manual_seed(0)
    model = hydra.utils.instantiate(config, num_outputs=1, inputs=packed.inputs)
    y = torch.linspace(-1, 1, len(SMILES))[:, None]
    base = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        base.zero_grad()
        loss = (model(every(packed)) - y).square().mean()
        loss.backward()
        base.step()
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]


def gradients(output, inputs, layer):
    return torch.autograd.grad(output.square().sum(), [*inputs, *layer.parameters()])


def test_a_layer_of_gine_is_torch_geometrics(packed):
    torch.manual_seed(0)
    batch, layer = every(packed), GineLayer(6)
    layer.eps.data.fill_(0.3)
    theirs = GINEConv(layer.net, eps=0.3, train_eps=True)
    x = torch.randn(batch.num_nodes, 6, requires_grad=True)
    bonds = torch.randn(batch.num_edges, 6, requires_grad=True)
    ours, expected = layer(x, bonds, batch), theirs(x, batch.edge_index, bonds)
    torch.testing.assert_close(ours, expected)
    by_name = {"eps": theirs.eps, **{f"net.{name}": p for name, p in theirs.nn.named_parameters()}}
    wanted = torch.autograd.grad(
        expected.square().sum(), [x, bonds, *(by_name[name] for name, _ in layer.named_parameters())]
    )
    for got, right in zip(gradients(ours, [x, bonds], layer), wanted, strict=True):
        torch.testing.assert_close(got, right, atol=1e-4, rtol=1e-4)


def test_integers_are_embedded_column_by_column():
    torch.manual_seed(0)
    encoder = Encoder(len(ATOM_CATEGORIES), 5, ATOM_CATEGORIES)
    features = torch.stack([torch.randint(0, n, (40,)) for n in ATOM_CATEGORIES], dim=1)
    features[0] = torch.tensor(ATOM_CATEGORIES) - 1  # the last category of each column
    tables = [
        nn.Embedding.from_pretrained(part, freeze=False) for part in encoder.embeddings.detach().split(ATOM_CATEGORIES)
    ]
    expected = sum(table(column) for table, column in zip(tables, features.unbind(1), strict=True))
    torch.testing.assert_close(encoder(features), expected)
    (grad,) = gradients(encoder(features), [], encoder)
    expected.square().sum().backward()
    torch.testing.assert_close(grad, torch.cat([table.weight.grad for table in tables]))


@pytest.mark.parametrize(
    ("pool", "theirs"), [("mean", global_mean_pool), ("sum", global_add_pool), ("max", global_max_pool)]
)
def test_pools_are_torch_geometrics(packed, pool, theirs):
    batch = every(packed)
    x = torch.randn(batch.num_nodes, 4)
    torch.testing.assert_close(POOLS[pool](x, batch), theirs(x, batch.batch))


def test_company_changes_nothing(packed):
    torch.manual_seed(0)
    model = Gine(2, packed.inputs, hidden=16, layers=3).eval()
    together = model(every(packed))
    alone = torch.cat([model(MoleculeBatch(packed, torch.tensor([i]))) for i in range(len(packed))])
    assert torch.allclose(alone, together, atol=1e-5)


def test_what_cannot_work_says_so(packed):
    with pytest.raises(UsageError, match="_partial_: true"):
        GraphModel(1, packed.inputs, GAT(8, 8, 2), hidden=8, pool="mean")
    with pytest.raises(UsageError, match="Did you mean 'mean'"):
        Gine(1, packed.inputs, pool="men")
