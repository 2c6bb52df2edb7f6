"""Featurisation: the published rules, atom by atom; the cache; the rows RDKit cannot read."""

import csv
import gzip

import numpy as np
import psutil
import pytest
import torch
from rdkit import Chem

from sam_bench.datasets.molecules import chemistry
from sam_bench.datasets.molecules import featurize as module
from sam_bench.datasets.molecules.batch import MoleculeBatch
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.errors import UsageError

SMILES = ["CCO", "c1ccccc1C(=O)[O-]", "C[C@H](N)C(=O)O", "C/C=C/Cl", "[Na+].[Cl-]", "C", "OS(=O)(=O)c1ccc2[nH]ccc2c1"]


def pack(smiles, **options):
    return featurize(smiles, cache_dir=None, progress=False, **options)


def everything(packed):
    return MoleculeBatch(packed, torch.arange(len(packed)))


def grover_atom(mol, atom):
    """GROVER's rules written a second time, as sets of columns that are one."""
    on = {min(atom.GetAtomicNum() - 1, 100), 101 + min(atom.GetTotalDegree(), 6)}
    on.add({0: 108, 1: 109, 2: 110, 3: 111, -2: 112, -1: 113}[atom.GetFormalCharge()])
    on.add(114 + {"CHI_UNSPECIFIED": 0, "CHI_TETRAHEDRAL_CW": 1, "CHI_TETRAHEDRAL_CCW": 2}[str(atom.GetChiralTag())])
    on.add(119 + min(atom.GetTotalNumHs(), 5))
    on.add(125 + {"SP": 0, "SP2": 1, "SP3": 2, "SP3D": 3, "SP3D2": 4}.get(str(atom.GetHybridization()), 5))
    if atom.GetIsAromatic():
        on.add(131)
    on.add(133 + min(atom.GetValence(Chem.ValenceType.IMPLICIT), 7))
    on |= {145 + size - 3 for size in range(3, 9) if mol.GetRingInfo().IsAtomInRingOfSize(atom.GetIdx(), size)}
    return on


def test_grover_atoms_follow_the_published_rules():
    batch = everything(pack(SMILES))
    assert batch.x.shape[1] == 151
    row = 0
    for smiles in SMILES:
        mol = Chem.MolFromSmiles(smiles)
        for atom in mol.GetAtoms():
            x = batch.x[row]
            patterns = set(range(141, 145))
            assert set(torch.nonzero(x == 1).flatten().tolist()) - patterns == grover_atom(mol, atom), (smiles, row)
            assert x[132] == pytest.approx(atom.GetMass() * 0.01)
            row += 1
    assert row == len(batch.x)


def test_grover_patterns_acceptor_donor_acid_base():
    x = everything(pack(["CC(=O)O", "CCN"])).x[:, 141:145].bool().tolist()
    carbon, acid, carbonyl, hydroxyl, _, _, amine = x
    assert carbon == [False] * 4
    assert acid == [False, False, True, False]
    assert carbonyl == [True, False, False, False]
    assert hydroxyl == [False, True, False, False]  # the OH of an acid is a donor, not an acceptor
    assert amine == [True, True, False, True]


def test_grover_bonds():
    batch = everything(pack(["C/C=C/Cl", "c1ccccc1"]))
    edge = batch.edge_attr
    assert edge.shape == (2 * 9, 14)
    assert (edge[0::2] == edge[1::2]).all()
    single, double, aromatic = edge[0], edge[2], edge[6]
    assert single[1] == 1
    assert single[7] == 1  # no stereo
    assert double[2] == 1
    assert double[7 + int(Chem.BondStereo.STEREOE)] == 1
    assert aromatic[4] == aromatic[5] == aromatic[6] == 1
    assert (edge[:, 0] == 0).all()


def test_ogb_features_equal_the_ogb_package():
    from ogb.utils.mol import smiles2graph

    batch = everything(pack(SMILES, features="ogb"))
    graphs = [smiles2graph(s) for s in SMILES]
    assert batch.x.dtype == batch.edge_attr.dtype == torch.int64
    assert (batch.x.numpy() == np.concatenate([g["node_feat"] for g in graphs])).all()
    assert (batch.edge_attr.numpy() == np.concatenate([g["edge_feat"] for g in graphs])).all()
    shift = np.cumsum([0] + [g["num_nodes"] for g in graphs])
    edges = np.concatenate([g["edge_index"] + s for g, s in zip(graphs, shift, strict=False)], axis=1)
    assert (batch.edge_index.numpy() == edges).all()


@pytest.mark.data
def test_ogb_features_equal_the_released_files(data_dir):
    folder = data_dir / "ogb" / "ogbg_molbbbp"
    if not folder.is_dir():
        pytest.skip("no ogbg_molbbbp in the data folder")
    with gzip.open(folder / "mapping" / "mol.csv.gz", "rt") as file:
        smiles = [row["smiles"] for row in csv.DictReader(file)]
    batch = everything(pack(smiles, features="ogb"))
    for name, ours in (("node-feat", batch.x), ("edge-feat", batch.edge_attr[0::1])):
        theirs = np.loadtxt(folder / "raw" / f"{name}.csv.gz", delimiter=",", dtype=np.int64)
        assert len(theirs) in (len(ours), len(ours) // 2)
        assert (ours[:: len(ours) // len(theirs)].numpy() == theirs).all()


def test_compt_features():
    packed = pack(["CCO", "[Na+].[Cl-]"], features="compt")
    batch = everything(packed)
    assert packed.inputs == {
        "atom_features": 115,
        "bond_features": 13,
        "descriptors": 0,
        "max_atoms": 3,
        "distances": 1,
    }
    assert batch.x[0, :101].argmax() == 5
    assert batch.x[0, 107] == pytest.approx(3 / 8)  # hydrogens
    assert batch.x.isfinite().all()
    assert batch.x[:3, 113].tolist() == pytest.approx([-0.042, 0.040, -0.397], abs=1e-3)  # Gasteiger charges
    assert packed.distances.tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 0, 255, 255, 0]


# Two of the seven molecules of OGB's HIV that RDKit refuses: an aluminium with six bonds, a boron with five.
ODD = ["O=C1O[Al]23(OC1=O)(OC(=O)C(=O)O2)OC(=O)C(=O)O3", "Cc1ccc([B-2]2(c3ccc(C)cc3)=NCCO2)cc1"]


@pytest.mark.parametrize("features", ["grover", "ogb", "compt"])
def test_an_odd_valence_is_read_only_on_request_and_listed(features):
    smiles = ["CC", ODD[0], "not a molecule", ODD[1]]
    packed = pack(smiles, features=features)
    assert (packed.keep.tolist(), packed.unparsable, packed.odd_valence) == ([0], [1, 2, 3], [])
    packed = pack(smiles, features=features, any_valence=True, descriptors=True)
    assert (packed.keep.tolist(), packed.unparsable, packed.odd_valence) == ([0, 1, 3], [2], [1, 3])
    assert packed.atoms.tolist() == [2, 19, 19]
    batch = everything(packed)
    assert batch.x.isfinite().all()
    assert batch.descriptors.isfinite().all()


def test_reading_without_the_check_of_valences_gives_the_same_numbers():
    """Explicit hydrogens, charges, aromatic rings, stereo: what the two ways could treat differently."""
    for text in ["N([H])([H])c1ccc(O[H])cc1", "C/C=C/[C@H](N)C(=O)[O-].[Na+]", "c1ccc2[nH]ccc2c1", "[2H]OC"]:
        checked, unchecked = Chem.MolFromSmiles(text), chemistry._unchecked(text)
        for features in chemistry.FEATURE_SETS.values():
            assert features.atoms(checked) == features.atoms(unchecked)
            assert features.bonds(checked) == features.bonds(unchecked)


def test_unreadable_rows_are_left_out_and_listed():
    packed = pack(["CC", "not a molecule", "", None, float("nan"), "O"])
    assert packed.keep.tolist() == [0, 5]
    assert packed.unparsable == [1, 2, 3, 4]
    with pytest.raises(UsageError, match="none of the 2 SMILES"):
        pack(["x", "y"])
    with pytest.raises(UsageError, match="Did you mean 'grover'"):
        pack(["C"], features="grovr")


def same(one, two):
    for name, value in vars(one).items():
        other = getattr(two, name)
        assert torch.equal(value, other) if torch.is_tensor(value) else value == other, name


def test_cache_gives_the_same_molecules_and_does_not_read_them_again(tmp_path, monkeypatch):
    first = featurize(SMILES, cache_dir=tmp_path / "new", progress=False)
    monkeypatch.setattr(module, "read_chunk", None)
    same(first, featurize(SMILES, cache_dir=tmp_path / "new", progress=False))
    assert [p.suffix for p in (tmp_path / "new").iterdir()] == [".npz"]


def test_cache_depends_on_content_rdkit_and_options(tmp_path, monkeypatch):
    def files():
        return len(list(tmp_path.iterdir()))

    featurize(SMILES, cache_dir=tmp_path, progress=False)
    featurize(SMILES[::-1], cache_dir=tmp_path, progress=False)
    featurize(SMILES, cache_dir=tmp_path, progress=False, features="ogb")
    featurize(SMILES, cache_dir=tmp_path, progress=False, descriptors=True)
    assert files() == 4
    monkeypatch.setattr(module.rdkit, "__version__", "1999.01")
    featurize(SMILES, cache_dir=tmp_path, progress=False)
    assert files() == 5


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"\x80\x04 a pickle"])
def test_a_damaged_cache_is_made_again(tmp_path, damage):
    first = featurize(SMILES, cache_dir=tmp_path, progress=False)
    (file,) = tmp_path.iterdir()
    whole = file.stat().st_size
    file.write_bytes(damage or file.read_bytes()[: whole // 2])
    same(first, featurize(SMILES, cache_dir=tmp_path, progress=False))
    assert file.stat().st_size == whole


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="SAM_BENCH_DATA"):
        featurize(SMILES, cache_dir=tmp_path / "file" / "cache", progress=False)


def test_workers_give_what_one_process_gives(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 2)
    monkeypatch.setattr(module, "_SERIAL", 3)
    same(pack(SMILES, jobs=1), pack(SMILES, jobs=2))


def test_no_worker_outlives_the_reading(monkeypatch):
    """An idle one lives for five minutes, and a worker of a sweep that has finished its run would wait for it."""
    monkeypatch.setattr(module, "_CHUNK", 2)
    monkeypatch.setattr(module, "_SERIAL", 3)
    pack(SMILES, jobs=2)
    children = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [command for command in children if "popen_loky" in command] == []


def test_descriptors_are_finite_and_standardised_on_the_training_molecules():
    packed = pack(SMILES, descriptors=True)
    raw = packed.descriptors
    assert raw.isfinite().all()
    assert packed.inputs["descriptors"] == raw.shape[1] > 200
    train = torch.tensor([0, 1, 2, 3])
    packed.scale_descriptors(train)
    seen = packed.descriptors[train]
    varied = raw[train].std(0) > 1e-6
    assert torch.allclose(seen.mean(0), torch.zeros(()), atol=1e-5)
    assert torch.allclose(seen[:, varied].std(0, correction=0), torch.ones(()), atol=1e-4)
    assert (packed.descriptors[:, ~varied] == 0).all()
    assert packed.descriptors.abs().max() <= 5
