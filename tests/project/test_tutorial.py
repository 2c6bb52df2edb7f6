"""The tutorial works as it stands: every file that it shows is written, every command is run, in its order.

Blocks marked `sh` install the package and make a folder, which is done before a test starts.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from support.pages import blocks, fenced, write_files

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
END_OF_BLOCK = "-- end of a block --"


def test_what_is_not_run_only_prepares():
    words = {line.split()[0] for block in blocks("sh", TUTORIAL) for line in block.splitlines()}
    assert words == {"python3", "pip", "mkdir"}


def run_in_order(folder: Path) -> list[str]:
    """What each block of commands prints; one shell runs them all, as a reader would."""
    script = "".join(f"{block}echo '{END_OF_BLOCK}'\n" for block in blocks("bash", TUTORIAL))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAM_BENCH_")}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    modules = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = kept | {"PATH": path, "PYTHONPATH": modules, "SAM_BENCH_DATA": str(folder / "data")}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment, text=True, timeout=880,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout.split(END_OF_BLOCK)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_from_the_csv_to_the_page(tmp_path):
    write_files(TUTORIAL, tmp_path)
    printed = run_in_order(tmp_path)
    outputs, output = iter(printed), ""
    for language, content in fenced(TUTORIAL):
        if language == "bash":
            output = next(outputs)
        elif language == "text":
            shown = [part for line in content.splitlines() for part in line.split("...")]  # ... is what was left out
            missing = [part for part in shown if part.strip() not in output]
            assert not missing, output
    assert "logp" in (tmp_path / "report.html").read_text()
    (table,) = [text.partition("### csv")[2] for text in printed if "### csv" in text]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    passes = [row[head.index("grad\\_evals / step")] for row in rows if "(7)" in row[1]]
    assert passes == ["1.00", "2.00", "1.50"], "the page says how many passes each method takes"
