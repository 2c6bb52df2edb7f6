"""OGB's molecule sets: their split and evaluator, no look at the network, and RDKit's features against their files."""

import gzip
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from sam_bench.config import files
from sam_bench.datasets.molecules import ogb
from sam_bench.errors import UsageError

SMALL = ["molbace", "molbbbp", "molesol", "molfreesolv"]


def load(name, data_dir, **changes):
    keys = OmegaConf.to_container(OmegaConf.load(files.config_dir() / "dataset" / f"ogbg_{name}.yaml"), resolve=True)
    del keys["_target_"]
    return ogb.load(**{**keys, **changes}, data_dir=data_dir, split_seed=0)


def numbers(path, dtype=np.int64):
    return np.loadtxt(path, dtype=dtype, delimiter=",", ndmin=2)


@pytest.fixture
def made(tmp_path):
    """A folder in OGB's layout, made up: ogbg_molfreesolv with ten molecules; returns the data folder."""
    folder = tmp_path / "ogb" / "ogbg_molfreesolv"
    put(
        folder / "mapping" / "mol.csv.gz",
        "expt,smiles,mol_id\n" + "".join(f"{n},{'C' * n},m{n}\n" for n in range(1, 11)),
    )
    for name, index in (("train", range(0, 6)), ("valid", (7, 6)), ("test", (8, 9))):
        put(folder / "split" / "scaffold" / f"{name}.csv.gz", "".join(f"{i}\n" for i in index))
    return tmp_path


def mapping():
    return "expt,smiles,mol_id\n" + "".join(f"{n},{'C' * n},m{n}\n" for n in range(1, 11))


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))


def test_the_official_split_and_labels(made):
    task = load("molfreesolv", made, verify=False)
    assert {name: index.tolist() for name, index in task.splits.items()} == {
        "train": [0, 1, 2, 3, 4, 5], "valid": [6, 7], "test": [8, 9],
    }  # fmt: skip
    assert task.targets[:, 0].tolist() == list(range(1, 11))
    assert not task.verified
    assert "sha256" in task.notes[0]


def test_other_bytes_than_the_release_are_refused(made):
    with pytest.raises(UsageError, match=r"does not hold OGB's release.*dataset\.verify=false"):
        load("molfreesolv", made)


def test_other_splits_are_to_be_had(made):
    assert [len(i) for i in load("molfreesolv", made, verify=False, split="random").splits.values()] == [8, 1, 1]


def test_molecules_that_cannot_be_parsed_leave_the_official_split(made):
    put(made / "ogb/ogbg_molfreesolv/mapping/mol.csv.gz", mapping().replace(f"8,{'C' * 8},", "8,bad,"))
    task = load("molfreesolv", made, verify=False)
    assert task.splits["valid"].tolist() == [6]
    assert task.targets[task.splits["test"], 0].tolist() == [9, 10]
    assert "(train 0, valid 1, test 0)" in task.notes[1]


def test_the_archive_is_unpacked_as_ogb_does(made, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    (data / "ogb").mkdir()
    with zipfile.ZipFile(data / "ogb" / "freesolv.zip", "w") as archive:
        for path in (made / "ogb" / "ogbg_molfreesolv").rglob("*.gz"):
            archive.write(path, f"freesolv/{path.relative_to(made / 'ogb' / 'ogbg_molfreesolv')}")
        archive.writestr("freesolv/../../outside", "no")
    task = load("molfreesolv", data, verify=False)
    assert task.data_sha256 == load("molfreesolv", made, verify=False).data_sha256
    assert (data / "ogb" / "ogbg_molfreesolv" / "mapping" / "mol.csv.gz").is_file()
    assert sorted(path.name for path in (data / "ogb").iterdir()) == ["freesolv.zip", "ogbg_molfreesolv"]


def test_a_broken_archive_and_a_broken_folder(made, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    (data / "ogb").mkdir()
    (data / "ogb" / "freesolv.zip").write_bytes(b"PK no")
    with pytest.raises(UsageError, match="broken"):
        load("molfreesolv", data, verify=False)
    assert not (data / "ogb" / "ogbg_molfreesolv").exists()
    put(made / "ogb/ogbg_molfreesolv/split/scaffold/test.csv.gz", "8\n8\n")
    with pytest.raises(UsageError, match="each of its 10 molecules once"):
        load("molfreesolv", made, verify=False)
    shutil.rmtree(made / "ogb/ogbg_molfreesolv/split")
    with pytest.raises(UsageError, match="cannot be read"):
        load("molfreesolv", made, verify=False)


def test_a_link_or_a_bomb_in_an_archive_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    archive = tmp_path / "ogb" / "freesolv.zip"
    archive.parent.mkdir()
    link = zipfile.ZipInfo("freesolv/mapping")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(link, "/etc")
    with pytest.raises(UsageError, match="holds a link, 'freesolv/mapping'"):
        load("molfreesolv", tmp_path, verify=False)
    monkeypatch.setattr(ogb, "LARGEST_UNPACKED", 1_000_000)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("freesolv/mapping/mol.csv.gz", bytes(2_000_000))
    with pytest.raises(UsageError, match="expands to more than 1 MB"):
        load("molfreesolv", tmp_path, verify=False)
    assert [path.name for path in archive.parent.iterdir()] == ["freesolv.zip"]


def test_importing_the_evaluator_asks_nobody():
    code = """
import socket, sys, threading
def refuse(*args, **kwargs):
    print("looked up", args)
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = refuse
from sam_bench.datasets.molecules.ogb import evaluator
judge = evaluator("ogbg_molhiv")
sys.exit(bool(threading.active_count() != 1 or judge.eval_metric != "rocauc" or {"ogb", "outdated"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, input="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "looked up" not in done.stdout


@pytest.mark.parametrize(("name", "metric", "k"), [("ogbg_molhiv", "roc_auc", 1), ("ogbg_moltox21", "roc_auc", 12),
                                                   ("ogbg_molesol", "rmse", 1)])  # fmt: skip
def test_our_metric_is_that_of_the_evaluator(name, metric, k):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, k)) if metric == "rmse" else (rng.random((300, k)) < 0.2).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    pred = rng.random((300, k)).round(2)
    value, notes = ogb.evaluate(ogb.evaluator(name), metric, [str(i) for i in range(k)], y, pred)
    assert value == pytest.approx(ogb.metrics.compute(metric, y, pred)[0], abs=1e-12)
    assert notes == []


def test_nothing_to_score_is_nan_with_a_note():
    value, notes = ogb.evaluate(ogb.evaluator("ogbg_molhiv"), "roc_auc", ["HIV"], np.zeros((5, 1)), np.zeros((5, 1)))
    assert np.isnan(value)
    assert "HIV" in notes[0]


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
def test_split_labels_atoms_and_bonds_are_those_of_the_files(name, data_dir):
    folder = data_dir / "ogb" / f"ogbg_{name}"
    task = load(name, data_dir, features="ogb")
    assert task.verified
    for part, index in task.splits.items():
        assert index.tolist() == numbers(folder / "split" / "scaffold" / f"{part}.csv.gz")[:, 0].tolist()
    labels = numbers(folder / "raw" / "graph-label.csv.gz", np.float32)
    assert np.array_equal(task.targets.numpy(), labels)
    batch = task.collate(torch.arange(len(task.targets)))
    assert np.array_equal(batch.x.numpy(), numbers(folder / "raw" / "node-feat.csv.gz"))
    assert np.array_equal(batch.edge_attr[::2].numpy(), numbers(folder / "raw" / "edge-feat.csv.gz"))
    atoms = numbers(folder / "raw" / "num-node-list.csv.gz")[:, 0]
    shift = np.repeat(np.cumsum(atoms) - atoms, numbers(folder / "raw" / "num-edge-list.csv.gz")[:, 0])
    assert np.array_equal(batch.edge_index[:, ::2].T.numpy() - shift[:, None], numbers(folder / "raw" / "edge.csv.gz"))


@pytest.mark.data
def test_a_molecule_that_rdkit_refuses_is_not_missing_from_the_benchmark(data_dir, tmp_path):
    """Line 139 of molhiv's mapping is a test molecule. The real file, cut after 400 rows, which have no valid row."""
    folder, cut = data_dir / "ogb" / "ogbg_molhiv", tmp_path / "ogb" / "ogbg_molhiv"
    lines = gzip.decompress((folder / "mapping" / "mol.csv.gz").read_bytes()).splitlines(keepends=True)[:401]
    rows = {part: numbers(folder / "split" / "scaffold" / f"{part}.csv.gz")[:, 0] for part in ("train", "test")}
    train, test = (sorted(row for row in rows[part].tolist() if row < 400) for part in ("train", "test"))
    parts = {"train": train[1:], "valid": train[:1], "test": test}
    (cut / "mapping").mkdir(parents=True)
    (cut / "mapping" / "mol.csv.gz").write_bytes(gzip.compress(b"".join(lines)))
    (cut / "split" / "scaffold").mkdir(parents=True)
    for part, kept in parts.items():
        (cut / "split" / "scaffold" / f"{part}.csv.gz").write_bytes(gzip.compress("\n".join(map(str, kept)).encode()))
    task = load("molhiv", tmp_path, features="ogb", verify=False)
    assert {part: index.tolist() for part, index in task.splits.items()} == parts
    assert 137 in parts["test"]
    assert "1 of 400 SMILES fail RDKit's check of valences and are read without it: line 139" in task.notes


@pytest.mark.data
def test_the_same_split_as_our_own_scaffold_split(data_dir):
    official = load("molbace", data_dir)
    assert official.split_sha256 == load("molbace", data_dir, split="scaffold").split_sha256
