"""Every example runs with the command of its header and prints what the header says."""

import os
import re
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
    return (
        shlex.split(command.removeprefix("Command: ").partition("   (")[0]),
        expected.removeprefix("Expected output: "),
    )


def run(command: list[str], folder: Path) -> str:
    """What `command` prints, started from this environment in an empty folder."""
    program = Path(sys.executable).with_name(command[0])
    arguments = [str(ROOT / word) if word.startswith("examples/") else word for word in command[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_prints_what_its_header_says(path, tmp_path):
    command, expected = header(path)
    printed = run(command, tmp_path)
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
    # Another processor rounds otherwise, and 15 epochs make that visible.
    for ours, theirs in zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=0.05)
    assert list(tmp_path.iterdir()) == [], "an example leaves no files"
