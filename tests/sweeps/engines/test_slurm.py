"""A sweep on a real SLURM: the records of a sweep on this machine, whatever happens to its tasks."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support import ROOT
from support.runs import assert_same_run

from sam_bench.config.compose import compose_specs

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600), pytest.mark.xdist_group("slurm")]  # one node for all
STARTS_WITHIN = 90  # seconds in which some task must run: the node is ours and has room
STARTER = ROOT.parent / "shared" / "slurm-local"  # starts a SLURM of one node, as root
LONG = ("dataset=digits", "model=fastnet_tiny", "train.epochs=12", "train.batch_size=256")
SMALL = ("launcher.cpus=1", "launcher.memory_gb=2", "launcher.minutes=20", "--launcher", "slurm")


@pytest.fixture
def slurm(controller):
    """A SLURM that answers; one that was started here is empty and its node up."""
    if controller == "started here":
        subprocess.run(["scancel", "--user", "root"], check=True)
        deadline = time.monotonic() + 120
        while subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout:
            assert time.monotonic() < deadline, f"the queue does not empty:\n{what_slurm_says()}"
            time.sleep(0.5)
        node = subprocess.run(["sinfo", "-h", "-o", "%n"], capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(
            ["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True
        )  # if it is drained


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    """The SLURM that is there, or one that is started here and stopped afterwards."""
    if answers():
        yield "found"
        return
    if not (shutil.which("slurmctld") and STARTER.exists() and os.getuid() == 0):
        pytest.skip("no SLURM answers here, and none can be started")
    folder = tmp_path_factory.mktemp("slurm")
    before = {process.pid for process in psutil.process_iter()}
    subprocess.run([STARTER], env={**os.environ, "SLURM_DIR": str(folder)}, check=True, timeout=200,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        assert answers()
        yield "started here"
    finally:
        for process in psutil.process_iter(["name"]):
            if process.pid not in before and process.info["name"] in ("slurmd", "slurmctld", "munged"):
                process.terminate()


def answers() -> bool:
    if not shutil.which("sinfo"):
        return False
    shown = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=120)
    return shown.returncode == 0 and any(state in shown.stdout for state in ("idle", "mixed", "allocated"))


def environment(results: Path) -> dict:
    return {**os.environ, "SAM_BENCH_RESULTS": str(results)}


def sam_bench(results: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "sam_bench", *words], env=environment(results), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=results.parent)  # fmt: skip


def ended(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=400)
    return process.returncode, output


def wait_for(condition, process: subprocess.Popen, seconds: float = 200):
    begun = ran = time.monotonic()
    for n in itertools.count():
        if found := condition():
            return found
        assert process.poll() is None, process.communicate()[0]
        now = time.monotonic()
        if n % 50 == 0 and queue("-t", "RUNNING"):
            ran = now
        if now - begun > seconds or now - ran > STARTS_WITHIN:
            process.kill()  # it would wait for an answer; the next test empties the queue
            pytest.fail(f"after {now - begun:.0f} s, {now - ran:.0f} s without a running task:\n{what_slurm_says()}")
        time.sleep(0.1)


def what_slurm_says() -> str:
    """Jobs with their reasons, the node and what is wrong with it."""
    commands = "squeue -r; sinfo -R; scontrol show job; scontrol show node; ps aux | grep -E '[s]lurm|[m]unge'"
    return subprocess.run(commands, shell=True, capture_output=True, text=True).stdout


def queue(*words: str) -> str:
    """What `squeue` lists, one task a line."""
    return subprocess.run(["squeue", "-h", "-r", *words], capture_output=True, text=True).stdout.strip()


def task_of(results: Path, number: int) -> str:
    """The name of a task of the first array; tasks are in the order of the cells."""
    names = sorted(path.name for path in (results / "logs" / "slurm").glob(f"*_{number}_0_log.out"))
    return re.match(r"\d+_\d+", names[0])[0]


def test_check_sends_a_real_job_and_leaves_nothing(slurm, tmp_path):
    results = tmp_path / "results"
    words = [word for word in SMALL if word.startswith("launcher.")]
    status, said = ended(sam_bench(results, "check", "launcher=slurm", *words, "--seconds", "200"))
    assert status == 0, said + what_slurm_says()
    assert "slurm passes sam_bench contract" in said
    assert not list(results.iterdir())


def test_tasks_that_are_told_to_go_or_killed(slurm, tmp_path):
    """One task gets the signal that SLURM sends before a time limit or a preemption, the other is cancelled."""
    local, remote = tmp_path / "local", tmp_path / "remote"
    grid = ["digits", *LONG[2:], "train.checkpoint_seconds=0", "optimizer=erm,looksam", "seed=0"]
    process = sam_bench(remote, "sweep", *grid, *SMALL)
    with sam_bench(local, "sweep", *grid, "--jobs", "1") as reference:
        cells = [cell_of(grid, name) for name in ("erm", "looksam")]
        told, killed = (remote / "runs" / f"{cell.run_id}.running" / "checkpoint.previous.pt" for cell in cells)
        wait_for(told.exists, process)
        first = task_of(remote, 0)
        subprocess.run(["scancel", "--signal=USR2", first], check=True)
        wait_for(lambda: state(first) == "PENDING", process)
        subprocess.run(["scontrol", "update", f"jobid={first}", "StartTime=now"], check=True)  # not in two minutes
        wait_for(killed.exists, process)
        subprocess.run(["scancel", "--signal=KILL", task_of(remote, 1)], check=True)
        status, output = ended(process)
        assert status == 0, output
        assert reference.wait(timeout=300) == 0
    for cell in cells:
        assert_same_run(local, remote, cell)
    assert "Caught signal SIGUSR2" in (remote / "logs" / "slurm" / f"{first}_0_log.out").read_text()
    assert not list((remote / "runs").glob("*.running"))


def cell_of(grid, optimizer):
    (cell,) = compose_specs([f"experiment={grid[0]}", *grid[1:-2], f"optimizer={optimizer}", "seed=0"])
    return cell


def state(task: str) -> str:
    return queue("-o", "%T", "-j", task)


def test_ctrl_c_lets_tasks_write_a_checkpoint(slurm, tmp_path):
    process = sam_bench(tmp_path / "results", "sweep", "digits", "train.epochs=300", "optimizer=sam", "seed=0", *SMALL)
    running = tmp_path / "results" / "runs"
    wait_for(lambda: list(running.glob("*.running/heartbeat.json")), process)
    process.send_signal(signal.SIGINT)
    status, output = ended(process)
    assert status == 130, output
    assert "--launcher slurm" in output  # how to go on
    assert list(running.glob("*.running/checkpoint.pt"))
    (script,) = (tmp_path / "results" / "logs" / "slurm").glob("*_submission.sh")
    array = script.name.partition("_")[0]
    deadline = time.monotonic() + 60
    while left(array):  # its last breath is the queue's, not ours
        assert time.monotonic() < deadline
        time.sleep(0.5)


def left(array: str) -> str:
    """The tasks of an array that still wait or run."""
    return queue("-t", "PENDING,RUNNING", "-o", "%i", "-j", array)


def test_a_hydra_multirun(slurm, tmp_path):
    words = ["optimizer=erm,sam", "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1",
             "hydra.launcher.mem_gb=2", "hydra.launcher.timeout_min=20", "train.epochs=1"]  # fmt: skip
    status, output = ended(sam_bench(tmp_path / "results", "run", "-m", *LONG[:2], *words))
    assert status == 0, output
    assert len(list((tmp_path / "results" / "runs").glob("*/record.json"))) == 2


def test_a_tuning_study_is_the_one_that_this_machine_makes(slurm, tmp_path):
    """The files of a study hold every trial, its scores and a hash over all of it."""
    words = ["tune", "digits", "--trials", "2", "--seeds", "1000", "optimizer=erm,sam", "train.epochs=1"]
    files = {}
    for place, where in (("here", ["--jobs", "1"]), ("slurm", SMALL)):
        (tmp_path / place).mkdir()
        status, output = ended(sam_bench(tmp_path / place / "results", *words, *where))
        assert status == 0, output
        studies = sorted((tmp_path / place / "results" / "tuned" / "digits").iterdir())
        files[place] = {path.name: path.read_bytes() for path in studies}
    assert len(files["here"]) == 2
    assert files["slurm"] == files["here"]
    for record in (tmp_path / "slurm" / "results" / "runs").glob("*/record.json"):
        assert not [key for key in json.loads(record.read_text())["metrics"] if key.startswith("test/")]


def test_what_slurm_refuses(slurm, tmp_path):
    words = ["sweep", "digits", "optimizer=erm", "seed=0"]
    status, output = ended(sam_bench(tmp_path / "results", *words, "launcher.partition=gppu", *SMALL))
    assert status == 2, output
    assert "invalid partition" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "results").glob("runs/*"))


def test_check_sends_a_job_through(slurm, tmp_path):
    words = ["launcher.cpus=1", "launcher.memory_gb=2", "launcher.minutes=5", "--seconds", "200"]
    status, output = ended(sam_bench(tmp_path / "results", "check", "launcher=slurm", *words))
    assert status == 0, output
    assert "slurm passes sam_bench contract" in output
    assert not list((tmp_path / "results").iterdir()), "what the check wrote is removed"
    status, output = ended(sam_bench(tmp_path / "results", "check", "launcher=slurm", "launcher.partition=gppu"))
    assert status == 1, output
    assert "invalid partition" in output
