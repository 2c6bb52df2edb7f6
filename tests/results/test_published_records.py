"""What README, results/README.md and paper_figures show is what the committed records say."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from support import ROOT

from sam_bench.cli import main

PUBLISHED = ROOT / "results" / "published"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with what `make published` writes."""
    root = tmp_path_factory.mktemp("published")
    subprocess.run([sys.executable, ROOT / "scripts" / "published.py", root], check=True)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_pages_are_made_from_the_committed_records(made, page):
    assert (made / page).read_text() == (ROOT / page).read_text(), "give: make published"


@pytest.mark.slow
def test_figures_are_made_from_the_committed_records(made):
    drawn, committed = ({path.name: path for path in (root / "paper_figures").iterdir()} for root in (made, ROOT))
    assert drawn.keys() == committed.keys()
    for name, path in drawn.items():
        ours, others = imread(path), imread(committed[name])
        assert ours.shape == others.shape, name
        assert np.abs(ours - others).mean() < 0.01, name  # fonts may be drawn a little differently


def test_the_readme_shows_a_committed_figure():
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert shown
    assert all((ROOT / path).is_file() for path in shown)


@pytest.mark.parametrize("record", sorted(PUBLISHED.glob("runs/*/record.json")), ids=lambda path: path.parent.name)
def test_committed_records_are_whole_and_come_from_committed_code(record):
    from sam_bench.store.record import read_record

    content = read_record(record)
    assert content["status"] == "finished"
    assert content["provenance"]["dirty"] is False
    assert content["run_id"] == record.parent.name
    assert (record.parent / "curve.csv").is_file()


def test_the_committed_quickstart_is_fair(capsys, monkeypatch):
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(PUBLISHED))
    assert main(["verify", "quickstart"]) == 0
    assert "fail" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_on_records(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(PUBLISHED))
    assert main(["report", "quickstart", "--out", str(tmp_path / "report.html")]) == 0
    assert "chembl2321810" in (tmp_path / "report.html").read_text()
    assert main(["figures", "quickstart", "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("quickstart_*.png"))) >= 2
    assert main(["status", "quickstart"]) == 0
    assert "21 finished" in capsys.readouterr().out


@pytest.mark.slow
def test_reading_records_never_imports_torch(tmp_path):
    """Torch takes seconds to import, more than all the records."""
    code = (
        "import sys; from sam_bench.cli import main\n"
        "for words in ('status quickstart', 'table quickstart', 'verify quickstart', 'figures quickstart --out {0}',\n"
        "              'report quickstart --out {0}/report.html'):\n"
        "    assert main(words.format(sys.argv[1]).split()) == 0, words\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    environment = os.environ | {"SAM_BENCH_RESULTS": str(PUBLISHED)}
    subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, check=True, capture_output=True)
