"""Every example runs with the command of its header and prints what the header says."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = re.compile(r"\d+\.\d+")


def header(path: Path) -> tuple[list[str], str]:
    """The command of an example, without its remarks, and the output that it promises."""
    what, command, expected = path.read_text().split('"""')[1].strip().splitlines()
    assert what.endswith(".")
    words = shlex.split(command.removeprefix("Command: ").partition("   (")[0])
    assert words[-1] == f"examples/{path.name}"
    return words, expected.removeprefix("Expected output: ")


def started(command: list[str], path: Path) -> str:
    """What `command` prints when it is started from this environment."""
    program = Path(sys.executable).with_name(command[0])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([program, *command[1:-1], path], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def environment():
    """Lightning leaves its seed in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_prints_what_its_header_says(path, tmp_path, monkeypatch, capsys):
    command, expected = header(path)
    monkeypatch.chdir(tmp_path)
    if command[0] == "python":  # in this process, which has torch already
        runpy.run_path(str(path), run_name="__main__")
        printed = capsys.readouterr().out
    else:
        printed = started(command, path)
    printed = printed.strip().splitlines()[-1]
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
    # Another processor rounds otherwise, and some hundred steps make that visible.
    for ours, theirs in zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=0.05)
    assert list(tmp_path.iterdir()) == [], "an example leaves no files"
