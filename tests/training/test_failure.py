"""A failed record, and the page that shows it, say what went wrong and nothing about whose machine it was."""

import dataclasses
import json
import re
import socket

import pytest

from sam_bench.config.compose import compose_specs
from sam_bench.results.report import data
from sam_bench.results.report.page import page
from sam_bench.store.index import load
from sam_bench.training.failure import without_names
from sam_bench.training.life import execute


@pytest.fixture
def somebody(monkeypatch, tmp_path):
    """Somebody's account on somebody's machine."""
    home = tmp_path / "home" / "zacharias"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "zacharias")
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu07.secret-lab.example")
    monkeypatch.chdir(home)
    return home


def test_a_failed_record_and_its_page_hold_no_home_no_host_and_no_user(somebody, results_dir):
    small = ("dataset=digits", "model=fastnet_tiny", "train.max_steps=2", "optimizer=sam")
    (cell,) = compose_specs(small)
    config = {**cell.config, "optimizer": {**cell.config["optimizer"], "_target_": "support.failing.Leaky"}}
    with pytest.raises(RuntimeError, match="zacharias"):  # who runs it sees everything
        execute(dataclasses.replace(cell, config=config), results_dir)
    (folder,) = (results_dir / "runs").iterdir()
    error = json.loads((folder / "record.json").read_text())["error"]
    assert error["message"] == "no cache/kernel.so for USER@HOST, nor lib.so"
    assert 'File "sam_bench/training/loop.py", line' in error["traceback"]
    assert 'File "failing.py", line' in error["traceback"]
    assert "No such file or directory: 'unpublished.csv'" in error["traceback"]
    text = page({"made to fail": load(results_dir)})
    text += json.dumps(data.data({"made to fail": load(results_dir)}, {"made to fail": []}))  # the page has it packed
    published = [path.read_text() for path in folder.iterdir()] + [text]
    for private in ("zacharias", "secret-lab", "gpu07", str(somebody.parent), "/opt/"):
        assert not [content for content in published if private in content], private
    assert not [content for content in published if re.search(r'File \\?"/', content)]


@pytest.mark.parametrize(("text", "kept"), [
    ("loss / steps is 3/4 at https://example.org/a/b", "loss / steps is 3/4 at https://example.org/a/b"),
    ("read 'sub/file.csv' and dataset/x", "read 'sub/file.csv' and dataset/x"),
    ("at /usr/lib/python3/dist-packages/numpy/core.py:3", "at site-packages/numpy/core.py:3"),
    ("/a/b.py, (/c/d e.f)", "b.py, (d e.f)"),
    ("zachariaslike zacharias", "zachariaslike USER"),
    ("    zacharias = 1", "    zacharias = 1"),  # a line of code
])  # fmt: skip
def test_what_is_private_goes_and_the_rest_stays(somebody, text, kept):
    assert without_names(text) == kept
