"""A sweep skips what is finished, goes on after a failure, and survives the death of a worker or of itself."""

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
train:
  epochs: {epochs}
  batch_size: 256
  checkpoint_seconds: 0
hydra:
  sweeper:
    params:
      optimizer: erm,sam
      seed: 0,1
"""


@pytest.fixture
def bench(tmp_path):
    """Runs a command in an environment of its own, with the experiments `tiny` (short) and `longer`."""
    for name, epochs in (("tiny", 1), ("longer", 12)):
        folder = tmp_path / "configs" / "experiment"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(EXPERIMENT.format(epochs=epochs))
    environment = {
        **os.environ,
        "SAM_BENCH_CONFIGS": str(tmp_path / "configs"),
        "SAM_BENCH_RESULTS": str(tmp_path / "results"),
    }

    def start(*words):
        command = [sys.executable, "-m", "sam_bench", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=environment, cwd=tmp_path, text=True, stdout=pipe, stderr=subprocess.STDOUT
        )

    def run(*words):
        process = start(*words)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    run.start = start
    run.runs = tmp_path / "results" / "runs"
    return run


def finished(bench):
    return sorted(path.parent.name for path in bench.runs.glob("*/record.json") if "." not in path.parent.name)


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_sweep_then_again(bench):
    status, output = bench("sweep", "tiny")
    assert status == 0, output
    assert len(finished(bench)) == 4
    assert "4 of 4 cells" in output
    records = {path: path.read_bytes() for path in bench.runs.glob("*/record.json")}
    start = time.monotonic()
    assert bench("sweep", "tiny")[0] == 0
    assert time.monotonic() - start < 20  # nothing is trained: the table alone
    assert records == {path: path.read_bytes() for path in bench.runs.glob("*/record.json")}
    status, listed = bench("status", "tiny", "--json")
    assert [row["status"] for row in json.loads(listed)] == ["finished"] * 4
    status, table = bench("table", "tiny", "--format", "csv")
    assert status == 0
    assert "sam" in table


def test_a_failing_cell_is_recorded_and_the_others_are_made(bench):
    status, output = bench("sweep", "tiny", "base.lr=0.001,1e30", "seed=0", "train.epochs=2")
    assert status == 1, output
    assert len(finished(bench)) == 2, output
    failed = [json.loads(path.read_text()) for path in bench.runs.glob("*.failed/record.json")]
    assert [record["status"] for record in failed] == ["failed"] * 2
    assert all(record["error"]["type"] == "NonFiniteLoss" for record in failed)
    assert all(record["error"]["step"] > 0 and "Traceback" in record["error"]["traceback"] for record in failed)
    status, output = bench("sweep", "tiny", "base.lr=0.001,1e30", "seed=0", "train.epochs=2")
    assert status == 1  # it stays failed, and is not run again unless asked for
    assert "NonFiniteLoss" in bench("status", "tiny", "base.lr=1e30", "seed=0", "train.epochs=2")[1]


def test_a_killed_worker_is_taken_up_again(bench):
    process = bench.start("sweep", "longer", "optimizer=sam", "seed=0", "--jobs", "1")
    wait_for(lambda: list(bench.runs.glob("*.running/checkpoint.pt")), process)
    owner = json.loads(next(bench.runs.glob("*.running/lease.*")).read_text())
    os.kill(owner["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    (record,) = [json.loads(path.read_text()) for path in bench.runs.glob("*/record.json")]
    assert record["provenance"]["resumed"] == 1


def test_ctrl_c_checkpoints_and_stops_then_goes_on(bench):
    process = bench.start("sweep", "longer", "optimizer=sam", "seed=0", "--jobs", "1")
    wait_for(lambda: list(bench.runs.glob("*.running/checkpoint.pt")), process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert finished(bench) == []
    status, output = bench("sweep", "longer", "optimizer=sam", "seed=0")
    assert status == 0, output
    assert len(finished(bench)) == 1


def test_a_killed_driver_leaves_no_worker_and_loses_nothing(bench):
    process = bench.start("sweep", "longer", "seed=0")
    wait_for(lambda: len(list(bench.runs.glob("*.running/checkpoint.pt"))) == 2 or finished(bench), process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(family, timeout=60)[1]
    status, output = bench("sweep", "longer", "seed=0")
    assert status == 0, output
    assert len(finished(bench)) == 2
    assert list(bench.runs.glob("*.running")) == []


def test_a_dry_run_writes_nothing(bench):
    status, output = bench("sweep", "tiny", "--dry-run")
    assert status == 0
    assert output.count("run  planned   digits-fastnet_tiny") == 4
    assert not bench.runs.exists()
