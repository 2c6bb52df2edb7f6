"""Finding, fetching and checking files: what is there is used, what is wrong is refused, nothing is half-written."""

import errno
import functools
import hashlib
import http.server
import subprocess
import sys
import threading

import pytest
import yaml

from sam_bench.config import files
from sam_bench.datasets import catalogue
from sam_bench.datasets import download as dl
from sam_bench.datasets.download import File, download, locate, obtain
from sam_bench.errors import UsageError

CONTENT = b"smiles,y\nCCO,1\n"
MD5 = hashlib.md5(CONTENT).hexdigest()
DEAD = "http://127.0.0.1:9/"  # nothing listens on the discard port


@pytest.fixture
def server(tmp_path_factory):
    """The address of a folder served over HTTP, with `set.csv` in it, and `other.csv` whose bytes differ."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "set.csv").write_bytes(CONTENT)
    (folder / "other.csv").write_bytes(CONTENT + b"C,0\n")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()


def put(data_dir, place, content=CONTENT):
    path = data_dir / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_first_address_that_works_is_used(server, tmp_path):
    download([DEAD, server + "absent.csv", server + "other.csv", server + "set.csv"], tmp_path / "a" / "set.csv", MD5)
    assert (tmp_path / "a" / "set.csv").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["set.csv"]


def test_without_a_network_the_message_says_where_to_put_the_file(tmp_path):
    with pytest.raises(UsageError) as raised:
        download([DEAD + "set.csv"], tmp_path / "set.csv", MD5)
    assert str(tmp_path / "set.csv") in str(raised.value)
    assert MD5 in str(raised.value)
    assert "ConnectionRefused" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_bytes_from_every_address_leave_nothing_behind(server, tmp_path):
    with pytest.raises(UsageError, match="md5 differs"):
        download([server + "other.csv"], tmp_path / "set.csv", MD5)
    assert list(tmp_path.iterdir()) == []


def test_only_https_leaves_this_machine(tmp_path, server):
    known = [yaml.safe_load(path.read_text()).get("file") for path in (files.config_dir() / "dataset").glob("*.yaml")]
    addresses = [address for file in known if file for address in File(**file).addresses()]
    assert {address.partition(":")[0] for address in addresses} == {"https"}
    for address in ("http://example.org/set.csv", "file:///etc/hostname", "ftp://example.org/set.csv"):
        with pytest.raises(UsageError, match="is not https"):
            download([address], tmp_path / "set.csv", MD5)


def test_a_redirection_away_from_https_is_refused(tmp_path, server, monkeypatch):
    monkeypatch.setattr(dl, "HERE", set())
    monkeypatch.setattr(dl, "_refuse_unless_https", lambda a, ask=dl._refuse_unless_https: a == server or ask(a))
    with pytest.raises(UsageError, match=r"http://127\.0\.0\.1 is not https"):
        download([server + "set.csv"], tmp_path / "set.csv", MD5)


def test_a_download_has_a_largest_size(tmp_path, server, monkeypatch):
    monkeypatch.setattr(dl, "LARGEST", len(CONTENT) - 1)
    with pytest.raises(UsageError, match="more than any data set we know"):
        download([server + "set.csv"], tmp_path / "set.csv", MD5)
    assert list(tmp_path.iterdir()) == []


OUTSIDE = [
    *({"name": name} for name in ("../x.csv", "/etc/passwd", "a/b.csv", "", "..")),
    *({"name": "x", **other} for other in ({"folder": "../.."}, {"folder": "/tmp"}, {"chemprop": "../x"})),
    {"name": "x", "unpacked": ["ok", "../out"]},
]


@pytest.mark.parametrize("file", OUTSIDE)
def test_a_file_cannot_lie_outside_the_data_folder(file):
    with pytest.raises(UsageError, match=r"dataset\.file\."):
        File(**file)


@pytest.mark.parametrize(("number", "message"), [(errno.ENOSPC, "No space left"), (errno.EACCES, "cannot be written")])
def test_a_full_disk_or_a_forbidden_folder(number, message, server, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(number, "it fails")

    monkeypatch.setattr(dl.os, "replace", fail)
    with pytest.raises(UsageError, match=f"{message}.*SAM_BENCH_DATA"):
        download([server + "set.csv"], tmp_path / "set.csv", MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        download([DEAD], tmp_path / "data" / "set.csv", MD5)


@pytest.mark.parametrize("place", ["moleculenet/set.csv", "set.csv"])
def test_a_file_that_is_there_is_used_and_proven(place, tmp_path):
    path = put(tmp_path, place)
    found = obtain("set", File("set.csv", md5=MD5, urls=[DEAD]), tmp_path)
    assert (found.path, found.layout, found.verified, found.note) == (path, "official", True, "")


def test_a_known_and_wrong_checksum_is_refused_even_if_chemprops_file_is_there(tmp_path):
    put(tmp_path, "moleculenet/chemprop_format/small.csv")
    path = put(tmp_path, "moleculenet/set.csv", b"other")
    file = File("set.csv", md5=MD5, chemprop="small.csv")
    with pytest.raises(UsageError, match=r"data fetch set.*dataset\.verify=false"):
        locate("set", file, tmp_path)
    found = locate("set", file, tmp_path, verify=False)
    assert (found.path, found.verified) == (path, False)
    assert MD5 in found.note


@pytest.mark.parametrize("place", ["moleculenet/set.csv", "set.csv"])
def test_only_the_compressed_file_has_a_published_checksum(place, tmp_path):
    put(tmp_path, place)
    found = locate("set", File("set.csv.gz", md5=MD5), tmp_path)
    assert not found.verified
    assert "set.csv.gz only" in found.note


@pytest.mark.parametrize("name", ["small.csv", "small.csv.gz"])
def test_chemprops_layout_is_found_and_never_proven(name, tmp_path):
    put(tmp_path, f"moleculenet/chemprop_format/{name}")
    found = locate("set", File("set.csv", md5=MD5, chemprop="small.csv"), tmp_path)
    assert (found.layout, found.verified) == ("chemprop", False)
    assert "no checksum is published" in found.note


def test_no_published_checksum_at_all(tmp_path):
    put(tmp_path, "moleculenet/set.csv")
    found = locate("set", File("set.csv"), tmp_path)
    assert not found.verified
    assert found.note


def test_nothing_there_is_none(tmp_path):
    assert locate("set", File("set.csv", chemprop="small.csv"), tmp_path) is None


def test_the_catalogue_imports_no_torch():
    code = "import sys, sam_bench.datasets.catalogue; sys.exit('torch' in sys.modules or 'rdkit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def configs(tmp_path, server):
    """What the YAML of one data set says, `set`, that the server has."""
    file = {"name": "set.csv", "md5": MD5, "urls": [server + "set.csv"], "licence": "ours"}
    return {"set": {"name": "set", "modality": "molecule", "file": file}}


def test_list_fetch_verify(configs, tmp_path, capsys):
    data = tmp_path / "data"
    assert [(row.name, row.state) for row in catalogue.listing(configs, data)] == [("set", "absent")]
    assert catalogue.command_verify(configs, data, absent_too=True) == 1
    assert catalogue.command_fetch(configs, data) == 0
    (row,) = catalogue.listing(configs, data)
    assert (row.state, row.verified, row.licence) == ("present", "yes", "ours")
    assert catalogue.command_list(configs, data) == 0
    assert catalogue.command_verify(configs, data, absent_too=False) == 0
    (data / "moleculenet" / "set.csv").write_bytes(b"spoilt")
    assert catalogue.command_verify(configs, data, absent_too=False) == 1
    assert catalogue.command_fetch(configs, data) == 1
    assert "not the published file" in capsys.readouterr().out


def test_every_data_set_of_ours_is_in_the_list(tmp_path):
    rows = catalogue.listing(files.read_group("dataset"), tmp_path)
    names = {path.stem for path in (files.config_dir() / "dataset").glob("*.yaml")}
    assert {row.name for row in rows} == names
    assert {row.name for row in rows if row.state == "embedded"} >= {"chembl2321810", "nci_tpsa", "digits"}


@pytest.mark.data
def test_what_is_proven_of_the_real_files(data_dir):
    rows = {row.name: row for row in catalogue.listing(files.read_group("dataset"), data_dir)}
    assert {name for name in ("bbbp", "esol", "lipophilicity", "sider") if rows[name].verified == "yes"} == {
        "bbbp", "esol", "lipophilicity", "sider",
    }  # fmt: skip
    assert rows["hiv"].state == "wrong"
    for name in ("tox21", "clintox", "bace", "freesolv", "toxcast"):
        assert (rows[name].state, rows[name].verified) == ("present", "no")
