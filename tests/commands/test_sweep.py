"""A sweep skips what is finished, goes on after a failure, and survives the death of a worker or of itself."""

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
            command, env=environment, cwd=tmp_path, text=True, stdout=pipe, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def run(*words):
        process = start(*words)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    run.start, run.folder = start, tmp_path
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_killed_worker_is_taken_up_again(bench):
    process = bench.start("sweep", "longer", "optimizer=sam", "seed=0", "--jobs", "1")
    wait_for(lambda: list(bench.runs.glob("*.running/checkpoint.pt")), process)
    owner = json.loads(next(bench.runs.glob("*.running/lease.*")).read_text())
    os.kill(owner["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    (record,) = [json.loads(path.read_text()) for path in bench.runs.glob("*/record.json")]
    assert record["provenance"]["resumed"] == 1


@pytest.mark.slow
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


@pytest.mark.slow
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


def has_fork_server(process):
    """Its other children come before the sweep begins: what a Ctrl-C ends then is Python on its way out."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any("forkserver" in " ".join(child.cmdline()) for child in psutil.Process(process.pid).children())


@pytest.mark.slow
def test_a_killed_fork_server_is_started_again(bench):
    process = bench.start("sweep", "longer", "optimizer=sam", "seed=0", "--jobs", "1", "--retries", "0")
    for number in range(3):
        wait_for(lambda: has_fork_server(process), process)
        if number:  # the first is killed while it imports torch, the others under a worker
            wait_for(lambda: list(bench.runs.glob("*.running/checkpoint.pt")), process)
        (server,) = [c for c in psutil.Process(process.pid).children() if "forkserver" in " ".join(c.cmdline())]
        server.kill()
        wait_for(lambda server=server: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, process)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert len(finished(bench)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("started", [False, True])
def test_a_second_ctrl_c_ends_everything_at_once(bench, started):
    """As a terminal sends it, to all processes; also while the fork server still imports torch."""
    process = bench.start("sweep", "longer", "seed=0", "train.epochs=500")
    wait_for(lambda: bench.runs.exists() if started else has_fork_server(process), process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    begin = time.monotonic()
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert time.monotonic() - begin < (3 if started else 60)
    assert not psutil.wait_procs(family, timeout=60)[1]
    assert finished(bench) == []


LOGGER = """
import os
class Counting:
    def start(self, head):
        with open({path!r}, "a") as file:
            file.write(head["run_id"] + "\\n")
    def log(self, row): pass
    def finish(self, record): pass
"""


@pytest.mark.slow
def test_two_sweeps_share_the_work_and_make_no_cell_twice(bench):
    (bench.folder / "counting.py").write_text(LOGGER.format(path=str(bench.folder / "started")))
    (bench.folder / "configs" / "logger").mkdir()
    (bench.folder / "configs" / "logger" / "counting.yaml").write_text("_target_: counting.Counting\n")
    words = ("sweep", "digits", "seed=0", "train.epochs=2", "logger=counting", "--jobs", "1")
    both = [bench.start(*words) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted((bench.folder / "started").read_text().split()) == finished(bench)
    assert len(finished(bench)) == 7
    assert all(output.count("test/accuracy") and "(7 of 7 cells finished)" in output for output in outputs)


@pytest.mark.slow
def test_status_of_a_sweep_under_way_and_after_its_death(bench):
    process = bench.start("sweep", "longer", "optimizer=sam", "seed=0", "train.epochs=500", "--jobs", "1")
    wait_for(lambda: list(bench.runs.glob("*.running/heartbeat.json")), process)
    of = ("status", "longer", "train.epochs=500", "--filter", "optimizer=sam")
    running, planned = json.loads(bench(*of, "--json")[1])
    assert (running["status"], planned["status"]) == ("running", "planned")
    assert running["heartbeat_age"] < 60
    assert running["heartbeat"]["steps"] > running["heartbeat"]["step"]
    text = bench(*of)[1]
    assert f"running   {running['run_id']}" in text
    assert "ago, process" in text
    assert "2 cells: 1 running, 1 planned" in text
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    owner = json.loads(next(bench.runs.glob("*.running/lease.*")).read_text())
    wait_for_death(owner["pid"])
    text = bench(*of)[1]
    assert f"stale     {running['run_id']}" in text
    assert "with: sam-bench sweep longer train.epochs=500 --filter optimizer=sam" in text


def wait_for_death(pid):
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_dry_run_writes_nothing(bench):
    status, output = bench("sweep", "tiny", "--dry-run")
    assert status == 0
    assert output.count("run  planned   digits-fastnet_tiny") == 4
    assert not bench.runs.exists()


@pytest.mark.slow
def test_a_dry_run_says_how_long_it_takes(bench):
    assert bench("sweep", "tiny", "--filter", "seed=0")[0] == 0
    assert len(finished(bench)) == 2
    status, output = bench("sweep", "tiny", "--dry-run", "--jobs", "1")
    assert status == 0
    assert output.count("keep finished") == 2
    assert output.count("(from 1 runs)") == 2
    assert "2 of 4 cells to run" in output
    assert "with 1 at once" in output
    status, output = bench("sweep", "tiny", "--filter", "seed=7")
    assert status == 2
    assert "Known: 0, 1." in output
