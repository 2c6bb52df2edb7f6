"""CIFAR: both layouts, unpacked or in an archive, checksums, hostile and broken files, splits, noise, subset."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from sam_bench.config import files
from sam_bench.datasets.images import cifar
from sam_bench.errors import UsageError


def options(name: str, **changes) -> dict:
    config = yaml.safe_load((files.config_dir() / "dataset" / f"{name}.yaml").read_text())
    del config["_target_"]
    return {**config, **changes}


def load(folder: Path, name: str, split_seed: int = 0, **changes):
    return cifar.load(data_dir=folder, split_seed=split_seed, **options(name, **changes))


def images(n: int, classes: int, seed: int):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, classes, n)


def write(folder: Path, layout: cifar.Layout, classes: int) -> None:
    """A small data set in `layout`: 40 images a batch."""
    (folder / layout.folder).mkdir(parents=True)
    for number, member in enumerate([*layout.train, *layout.test]):
        x, y = images(40, classes, number)
        if layout.binary:
            label = y[:, None].astype(np.uint8)
            columns = [label, x] if classes == 10 else [label // 5, label, x]
            data = np.concatenate(columns, axis=1).tobytes()
        else:
            key = b"labels" if classes == 10 else b"fine_labels"
            data = pickle.dumps({b"data": x, key: y.tolist(), b"filenames": [b"a.png"]}, protocol=4)
        (folder / layout.folder / member).write_bytes(data)


def pack(folder: Path, layout: cifar.Layout) -> None:
    with tarfile.open(folder / layout.archive, "w:gz") as archive:
        archive.add(folder / layout.folder, layout.folder)
    for path in (folder / layout.folder).iterdir():
        path.unlink()
    (folder / layout.folder).rmdir()


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_all_layouts_hold_the_same_images(tmp_path, name, classes):
    digests = set()
    for place, layout in enumerate(cifar.LAYOUTS[classes][:2]):
        for packed in (False, True):
            folder = tmp_path / f"{place}{packed}"
            write(folder, layout, classes)
            if packed:
                pack(folder, layout)
            task = load(folder, name, verify=False)
            digests.add(task.data_sha256)
            assert not task.verified
            assert any("md5" in note for note in task.notes)
            assert str(folder) not in " ".join(task.notes)  # records travel
    assert len(digests) == 1
    n = 40 * len(layout.train)
    assert {k: len(v) for k, v in task.splits.items()} == {"train": n - n // 10, "valid": n // 10, "test": 40}
    assert task.splits["test"].tolist() == list(range(n, n + 40))
    x, y = images(40, classes, 0)
    mean, std = (np.array(options(name)[key])[:, None, None] for key in ("mean", "std"))
    batch = task.collate(task.splits["train"][:1])
    first = int(task.splits["train"][0])
    assert np.allclose(batch.x[0], (x[first].reshape(3, 32, 32) / 255 - mean) / std, atol=1e-4)
    assert int(batch.y) == y[first]


@pytest.mark.parametrize("place", [0, 1])
def test_wrong_checksum_is_refused_with_a_way_on(tmp_path, place):
    write(tmp_path, cifar.LAYOUTS[10][place], 10)
    with pytest.raises(UsageError, match=r"not the official file: its md5 is [0-9a-f]{32}.*dataset\.verify=false"):
        load(tmp_path, "cifar10")


def test_wrong_archive_is_refused(tmp_path):
    layout = cifar.LAYOUTS[100][0]
    write(tmp_path, layout, 100)
    pack(tmp_path, layout)
    with pytest.raises(UsageError, match=r"cifar-100-python\.tar\.gz is not the published file.*verify=false"):
        load(tmp_path, "cifar100")


def test_missing_and_broken_batches(tmp_path):
    layout = cifar.LAYOUTS[10][1]
    write(tmp_path, layout, 10)
    batch = tmp_path / layout.folder / "data_batch_3.bin"
    whole = batch.read_bytes()
    for content, message in ((whole[:-1], "whole number"), (b"", "whole number"), (b"\xff" * 3073, "outside")):
        batch.write_bytes(content)
        with pytest.raises(UsageError, match=message):
            load(tmp_path, "cifar10", verify=False)
    batch.unlink()
    with pytest.raises(UsageError, match="unpack the official archive again"):
        load(tmp_path, "cifar10", verify=False)


@pytest.mark.parametrize("target", ["cifar-10-batches-py/data_batch_1", "/etc/passwd", "cifar-10-batches-py/nowhere"])
def test_a_link_in_an_archive_is_no_file(tmp_path, target):
    """The first one leads to itself."""
    layout = cifar.LAYOUTS[10][0]
    link = tarfile.TarInfo(f"{layout.folder}/data_batch_1")
    link.type, link.linkname = tarfile.SYMTYPE, target
    with tarfile.open(tmp_path / layout.archive, "w:gz") as archive:
        archive.addfile(link)
    with pytest.raises(UsageError, match=r"data_batch_1 in .* is a link"):
        load(tmp_path, "cifar10", verify=False)


def test_an_archive_that_expands_beyond_all_measure_is_not_read_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "LARGEST_UNPACKED", 1_000_000)
    layout = cifar.LAYOUTS[10][0]
    with tarfile.open(tmp_path / layout.archive, "w:gz") as archive:
        for name in ("before", f"{layout.folder}/data_batch_1"):
            bomb = tarfile.TarInfo(name)
            bomb.size = 3_000_000
            archive.addfile(bomb, io.BytesIO(bytes(bomb.size)))
    with pytest.raises(UsageError, match="expands to more than 1 MB"):
        load(tmp_path, "cifar10", verify=False)


PIXELS = np.zeros((2, 3072), np.uint8)


class Evil:
    def __reduce__(self):
        return print, ("the file ran its own code",)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Evil()), b"", b"not a pickle", pickle.dumps({}), pickle.dumps({b"data": 1, b"fine_labels": 2}),
     pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"fine_labels": [0, 1]}, protocol=4),
     pickle.dumps({b"data": np.zeros((2, 3072)), b"fine_labels": [0, 1]}, protocol=4),
     pickle.dumps({b"data": PIXELS, b"fine_labels": [0.5, 1.0]}, protocol=4),
     pickle.dumps({b"data": PIXELS, b"fine_labels": [[0], [1]]}, protocol=4),
     pickle.dumps({b"data": PIXELS[:0], b"fine_labels": []}, protocol=4),
     b"cos\nsystem\n(S'echo the file ran its own code'\ntR.",
     b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.",  # a dotted name would reach what hangs on an allowed one
     b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x80\x02]r\xff\xff\xff\x7f.",  # more bytes than there are
     b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftU\x01btR."],
)  # fmt: skip
def test_hostile_and_broken_pickles(content, capsys):
    with pytest.raises(UsageError, match=r"not a CIFAR batch|is broken"):
        cifar.parse_python(content, 100, "train")
    assert capsys.readouterr().out == ""


def test_no_data_and_no_network_says_where_to_put_the_file(tmp_path, monkeypatch):
    from sam_bench.datasets import download

    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.01)
    with pytest.raises(UsageError, match=r"put the file there yourself: .*cifar-10-python\.tar\.gz, md5 c58f3"):
        load(tmp_path, "cifar10", file={**options("cifar10")["file"], "urls": ["http://127.0.0.1:9/x.tar.gz"]})


def test_split_noise_and_subset_are_seeded(tmp_path):
    write(tmp_path, cifar.LAYOUTS[100][1], 100)
    plain = load(tmp_path, "cifar100", verify=False)
    again = load(tmp_path, "cifar100", verify=False)
    other = load(tmp_path, "cifar100", split_seed=1, verify=False)
    assert plain.split_sha256 == again.split_sha256 != other.split_sha256
    noisy = load(tmp_path, "cifar100", verify=False, label_noise=0.5)
    assert (noisy.targets != plain.targets).sum() == 20
    assert (noisy.targets != plain.targets)[noisy.splits["test"]].sum() == 0
    assert noisy.data_sha256 == plain.data_sha256
    part = load(tmp_path, "cifar100", verify=False, subset=20)
    assert [len(part.splits[s]) for s in ("train", "valid", "test")] == [18, 2, 40]
    assert any("a subset of 20 of the 40" in note for note in part.notes)
    for bad in ({"subset": 41}, {"valid_fraction": 0.0}, {"label_noise": 2.0}, {"split": "random"}):
        with pytest.raises(UsageError):
            load(tmp_path, "cifar100", verify=False, **bad)


@pytest.mark.data
def test_the_official_cifar100_is_verified(data_dir):
    if not (data_dir / "cifar-100-python").is_dir():
        pytest.skip("no CIFAR-100 in the data folder")
    task = load(data_dir, "cifar100")
    assert task.verified
    assert task.notes == ()
    assert [len(task.splits[s]) for s in ("train", "valid", "test")] == [45000, 5000, 10000]
    assert task.targets.bincount(minlength=100).tolist() == [600] * 100
    x = task.collate(task.splits["train"][:10000]).x
    assert x.mean().abs() < 0.02
    assert (x.std() - 1).abs() < 0.02


@pytest.mark.data
def test_the_python_batches_are_the_binary_ones(data_dir):
    """The md5 of the binary members are those of the bytes that the python members hold, in the same order."""
    path = data_dir / "cifar-100-python" / "test"
    if not path.is_file():
        pytest.skip("no CIFAR-100 in the data folder")
    batch = pickle.loads(path.read_bytes(), encoding="bytes")
    labels = np.array([batch[b"coarse_labels"], batch[b"fine_labels"]], dtype=np.uint8).T
    data = np.concatenate([labels, batch[b"data"]], axis=1).tobytes()
    assert hashlib.md5(data).hexdigest() == cifar.LAYOUTS[100][1].test["test.bin"]
    for one, other in zip(cifar.parse_binary(data, 100, "b"), cifar.parse_python(path.read_bytes(), 100, "p"),
                          strict=True):  # fmt: skip
        assert np.array_equal(one, other)


@pytest.mark.data
def test_the_damaged_sample_is_noticed(data_dir):
    if not (data_dir / "cifar-10-sample").is_dir():
        pytest.skip("no CIFAR-10 sample in the data folder")
    with pytest.raises(UsageError, match=r"test_batch\.bin .* not the official file.*dataset\.verify=false"):
        load(data_dir, "cifar10")
    task = load(data_dir, "cifar10", verify=False)
    assert not task.verified
    assert len(task.notes) == 2
    assert "md5 of test_batch.bin" in task.notes[0]
    assert [len(task.splits[s]) for s in ("train", "valid", "test")] == [8000, 1000, 1000]


def test_the_data_commands_find_unpacked_batches(tmp_path, capsys):
    from sam_bench.datasets import catalogue

    write(tmp_path, cifar.LAYOUTS[100][0], 100)
    rows = {row.name: row for row in catalogue.listing(files.read_group("dataset", ["cifar10", "cifar100"]), tmp_path)}
    assert (rows["cifar10"].state, rows["cifar100"].state) == ("absent", "present")
    (row,) = catalogue.verify(files.read_group("dataset", ["cifar100"]), tmp_path)
    assert row.state == "wrong"
    assert "not the official file" in row.note
