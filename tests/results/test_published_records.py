"""What the README shows is what the committed records say."""

import os
import subprocess
import sys

import pytest
from support import ROOT

from sam_bench.cli import main

PUBLISHED = ROOT / "results" / "published"


def test_the_table_in_the_readme_is_made_from_the_committed_records(capsys, monkeypatch):
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(PUBLISHED))
    assert main(["table", "quickstart", "--format", "markdown"]) == 0
    table = capsys.readouterr().out.strip()
    readme = (ROOT / "README.md").read_text()
    shown = readme.partition("<!-- quickstart table: begin -->")[2].partition("<!-- quickstart table: end -->")[0]
    assert shown.strip() == table


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


def test_the_commands_on_records(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(PUBLISHED))
    assert main(["report", "quickstart", "--out", str(tmp_path / "report.html")]) == 0
    assert "chembl2321810" in (tmp_path / "report.html").read_text()
    assert main(["figures", "quickstart", "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("quickstart_*.png"))) >= 2
    assert main(["status", "quickstart"]) == 0
    assert "21 finished" in capsys.readouterr().out


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
