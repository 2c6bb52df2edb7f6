"""What the shell offers after Tab."""

import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam_bench.commands import completion


@pytest.mark.parametrize(("name", "typed", "offered", "not_offered"), [
    ("experiment", "quick", {"quickstart"}, {"digits"}),
    ("words", "dig", {"digits"}, {"quickstart"}),
    ("overrides", "opt", {"optimizer=", "optimizer."}, {"base="}),
    ("overrides", "optimizer=loo", {"optimizer=looksam"}, {"optimizer=sam"}),
    ("overrides", "optimizer=erm,vs", {"optimizer=erm,vsam"}, {"optimizer=vsam"}),
    ("overrides", "optimizer.rh", {"optimizer.rho="}, {"optimizer.k="}),
    ("overrides", "train.", {"train.epochs=", "train.batch_size="}, {"train._target_="}),
    ("launcher", "s", {"slurm"}, {"ray"}),
])  # fmt: skip
def test_words_are_offered(name, typed, offered, not_offered):
    found = set(completion._COMPLETERS["", name](typed))
    assert offered <= found
    assert not not_offered & found
    assert all(word.startswith(typed) for word in found)


def test_files_of_the_own_folder_are_offered_and_a_wrong_folder_breaks_nothing(tmp_path, monkeypatch):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "my_sam.yaml").write_text("defaults: [sam]\n")
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path))
    complete = completion._COMPLETERS["", "overrides"]
    assert complete("optimizer=my") == ["optimizer=my_sam"]
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "gone"))
    assert complete("optimizer=my") == []


@pytest.mark.parametrize(("line", "offered"), [
    ("sam-bench swe", "sweep"),
    ("sam-bench sweep quick", "quickstart"),
    ("sam-bench table quickstart --form", "--format"),
    ("sam-bench table quickstart model=grover_sm", "model=grover_small"),
    ("sam-bench run dataset=chem", "dataset=chembl2321810"),
    ("sam-bench data fetch bbb", "bbbp"),
])  # fmt: skip
def test_the_shell_is_answered(line, offered, tmp_path):
    """As the function that register-python-argcomplete writes asks: the answer comes on descriptor 8."""
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                   "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_COMP_WORDBREAKS": "", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
                   "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}  # fmt: skip
    subprocess.run([sys.executable, "-m", "sam_bench"], env=environment, check=True, timeout=60)
    assert offered in answer.read_text().split("\n")


def _wait_for(terminal, expected, seconds=60):
    """Read a terminal until it shows a text."""
    shown, end = "", time.monotonic() + seconds
    while expected not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")


def test_zsh_completes_as_the_page_says(tmp_path):
    """A real zsh on a terminal of its own, with the lines that docs/commands.md gives for ~/.zshrc."""
    pytest.importorskip("argcomplete")
    pty = pytest.importorskip("pty")
    programs = Path(sys.executable).parent
    if not shutil.which("zsh") or not (programs / "register-python-argcomplete").exists():
        pytest.skip("needs zsh and an installed argcomplete")
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    load, evaluate = re.search(r"after `(autoload[^`]*)`", page), re.search(r'^eval "[^"]*"', page, re.MULTILINE)
    (tmp_path / ".zshrc").write_text(f"{load[1]} -u\n{evaluate[0]}\nPS1='ready> '\n")  # -u: ask nothing
    (tmp_path / "sam-bench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sam_bench "$@"\n')
    (tmp_path / "sam-bench").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(programs), os.environ["PATH"]])
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-d", "-i"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=tmp_path,
        env={**os.environ, "PATH": path, "ZDOTDIR": str(tmp_path), "TERM": "xterm"},
    )  # fmt: skip
    try:
        _wait_for(master, "ready> ")
        for typed, completed in (("sam-bench swe", "sweep"), ("sam-bench run optimizer=erm,vs", "optimizer=erm,vsam")):
            os.write(master, f"{typed}\t".encode())
            _wait_for(master, completed)
            os.write(master, b"\x15")  # Ctrl-U: an empty line again
    finally:
        shell.kill()
        shell.wait()
        for end in (master, slave):
            os.close(end)
