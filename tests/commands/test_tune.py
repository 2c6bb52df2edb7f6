"""`sam-bench tune` with real runs: it skips what is there, survives kill -9, and no trial reads the test split."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

EXPERIMENT = """# @package _global_
defaults:
  - override /dataset: digits
  - override /model: fastnet_tiny
  - override /base: sgd
train:
  epochs: 2
  batch_size: 512
hydra:
  sweeper:
    params:
      optimizer: erm,sam
      seed: 0
"""
WORDS = ("tune", "tiny", "--trials", "2", "--seeds", "1000", "--jobs", "2")


@pytest.fixture
def start(tmp_path):
    """Starts a command on the experiment `tiny`, with a results folder of a given name."""
    folder = tmp_path / "configs" / "experiment"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(EXPERIMENT)

    def start(results, *words):
        environment = {
            **os.environ,
            "SAM_BENCH_CONFIGS": str(folder.parent),
            "SAM_BENCH_RESULTS": str(tmp_path / results),
        }
        return subprocess.Popen([sys.executable, "-m", "sam_bench", *words], env=environment, cwd=tmp_path, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    return start


def ended(process, status=0):
    output, _ = process.communicate(timeout=280)
    assert process.returncode == status, output
    return output


@pytest.mark.slow
def test_a_study_from_the_trials_to_the_table(start, tmp_path):
    output = ended(start("whole", *WORDS))
    assert "4 runs, 0 already finished" in output
    assert "sam-bench sweep tiny tuned=tiny" in output
    runs = tmp_path / "whole" / "runs"
    records = [json.loads(path.read_text()) for path in runs.glob("*/record.json")]
    assert len(records) == 4
    for record in records:
        assert not [name for name in record["metrics"] if name.startswith("test/")]
        assert "valid/accuracy" in record["metrics"]
        assert record["config"]["test"] is False
    lrs = {
        name: {r["config"]["base"]["lr"] for r in records if r["labels"]["optimizer"] == name}
        for name in ("erm", "sam")
    }
    assert len(lrs["erm"]) == 2
    assert lrs["erm"] == lrs["sam"]
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "tuned" / "tiny").iterdir()}
    assert len(files) == 2
    assert "4 runs, 4 already finished" in ended(start("whole", *WORDS))

    killed = start("torn", *WORDS)
    torn = tmp_path / "torn" / "runs"
    deadline = time.monotonic() + 200
    while not list(torn.glob("*/record.json")):
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.01)
    family = psutil.Process(killed.pid).children(recursive=True)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert "0 already finished" not in ended(start("torn", *WORDS))
    assert {path.name: path.read_bytes() for path in (tmp_path / "torn" / "tuned" / "tiny").iterdir()} == files

    output = ended(start("whole", "sweep", "tiny", "tuned=tiny", "--jobs", "2"))
    assert "Options: tuned (2 trials of every method), study tiny." in output
    finals = [json.loads(path.read_text()) for path in runs.glob("*/record.json") if "seed0" in path.parent.name]
    assert [record["config"]["tuned"]["study"] for record in finals] == ["tiny"] * 2
    assert all("test/accuracy" in record["metrics"] for record in finals)
    said = ended(start("whole", "verify", "tiny", "tuned=tiny"))
    assert "Options: tuned (2 trials of every method), study tiny." in said
    assert "fail" not in said
    ended(start("whole", "report", "tiny", "tuned=tiny", "--out", "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "sam-bench table tiny tuned=tiny" in page
    assert "tuning of digits / fastnet_tiny / sgd" in page


@pytest.mark.slow
def test_three_budgets_with_one_command(start, tmp_path):
    words = ("budgets", "tiny", "--jobs", "2")
    first = ended(start("budgets", *words))
    assert "equal gradient evaluations" in first
    assert "equal seconds" in first
    runs = tmp_path / "budgets" / "runs"
    trains = [json.loads(path.read_text())["config"]["train"] for path in runs.glob("*/record.json")]
    assert sorted(train["budget"] for train in trains) == ["epochs"] * 2 + ["grad_evals"] * 2 + ["seconds"] * 2
    (seconds,) = {train["seconds"] for train in trains} - {None}
    sams = [json.loads(path.read_text()) for path in runs.glob("*-sam-*/record.json")]
    (sam,) = [record for record in sams if record["config"]["train"]["budget"] == "epochs"]
    assert seconds == pytest.approx(sam["train_seconds"], rel=0.01)
    again = ended(start("budgets", *words))
    assert again[again.index("three budgets") :] == first[first.index("three budgets") :]
    assert len(list(runs.iterdir())) == 6


def test_wrong_requests(start):
    assert "final runs'" in ended(start("r", "tune", "tiny", "--trials", "1", "--seeds", "0"), 2)
    assert "there is no tuning study 'none'" in ended(start("r", "sweep", "tiny", "tuned=none"), 2)
    assert "train.budget=seconds" in ended(start("r", "budgets", "tiny", "train.budget=seconds"), 2)
