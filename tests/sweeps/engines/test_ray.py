"""A sweep on a real Ray cluster of one node: the records of a sweep on this machine, also when an actor dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.runs import assert_same_run

from sam_bench.config.compose import compose_specs

pytest.importorskip("ray")
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("ray")]
GRID = (
    "digits",
    "model=fastnet_tiny",
    "train.epochs=8",
    "train.batch_size=256",
    "train.checkpoint_seconds=0",
    "seed=0",
)


@pytest.fixture(scope="module")
def cluster():
    """`ray start --head`, stopped afterwards; its address."""
    program, address = Path(sys.executable).with_name("ray"), "127.0.0.1:26379"
    options = ["--port=26379", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    environment = {**os.environ, "RAY_DISABLE_MEMORY_MONITOR": "1"}
    started = subprocess.Popen([program, "start", "--head", "--block", *options], env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    for line in started.stdout:
        if b"Ray runtime started" in line:
            break
    yield address
    os.killpg(started.pid, signal.SIGTERM)
    started.wait(timeout=60)


def sweep(results: Path, *words: str) -> subprocess.Popen:
    environment = {**os.environ, "SAM_BENCH_RESULTS": str(results)}
    return subprocess.Popen([sys.executable, "-m", "sam_bench", "sweep", *GRID, *words], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=results.parent)  # fmt: skip


@pytest.mark.slow
def test_a_sweep_in_which_an_actor_is_killed(cluster, tmp_path):
    local, remote = tmp_path / "local", tmp_path / "remote"
    cells = {
        name: compose_specs([f"experiment={GRID[0]}", *GRID[1:], f"optimizer={name}"])[0] for name in ("erm", "sam")
    }
    process = sweep(remote, "optimizer=erm,sam", "--launcher", "ray", f"launcher.address={cluster}")
    checkpoint = remote / "runs" / f"{cells['sam'].run_id}.running" / "checkpoint.previous.pt"
    deadline = time.monotonic() + 200
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victim = next(p for p in psutil.process_iter(["cmdline"]) if works_on(p, checkpoint.parent))
    victim.kill()
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    reference = sweep(local, "optimizer=erm,sam", "--jobs", "1")
    assert reference.wait(timeout=400) == 0
    for cell in cells.values():
        assert_same_run(local, remote, cell)


def works_on(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is the owner of the lease in a run's folder."""
    lease = max(folder.glob("lease.*"), key=lambda path: int(path.name.partition(".")[2]))
    return f'"pid": {process.pid},' in lease.read_text()


@pytest.mark.slow
def test_ctrl_c_lets_actors_write_a_checkpoint(cluster, tmp_path):
    process = sweep(
        tmp_path / "r", "train.epochs=300", "optimizer=sam", "--launcher", "ray", f"launcher.address={cluster}"
    )
    running = tmp_path / "r" / "runs"
    deadline = time.monotonic() + 200
    while not list(running.glob("*.running/heartbeat.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 130, output
    assert list(running.glob("*.running/checkpoint.pt"))


@pytest.mark.parametrize(("words", "message"), [
    (["launcher.address=127.0.0.1:1"], "no Ray cluster at launcher.address=127.0.0.1:1"),
    (["launcher.cpus=1000"], "no node of the Ray cluster has launcher.cpus=1000"),
    (["launcher.cpu=1"], "launcher.cpus"),
])  # fmt: skip
def test_what_cannot_be_is_refused(cluster, tmp_path, words, message):
    words = [f"launcher.address={cluster}", *words] if "address" not in words[0] else words
    process = sweep(tmp_path / "r", "optimizer=erm", "--launcher", "ray", *words)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 2, output
    assert message in output
    assert "Traceback" not in output
    assert not list((tmp_path / "r").glob("runs/*"))


def test_an_address_of_a_cluster_that_is_gone_is_refused_at_once(tmp_path, monkeypatch):
    """Ray itself tries for minutes, also where a file of its own still names a cluster of yesterday."""
    from sam_bench.errors import UsageError
    from sam_bench.sweeps.engines.ray import RayEngine

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match=r"no Ray cluster at launcher.address=auto \(.*refused.*ray stop"):
        RayEngine(tmp_path)
