"""A run's number of threads is its own: no waiting cells, no environment and no restart change its bits."""

import os
import subprocess
import sys

import pytest
import torch
from support.runs import assert_same_run, stop_after

from sam_bench.config.compose import compose_specs
from sam_bench.errors import UsageError
from sam_bench.sweeps.engines import local
from sam_bench.training import checkpoint, threads
from sam_bench.training.life import Stopped, execute

SMALL = ("dataset=digits", "model=fastnet_tiny", "base=adam", "train.epochs=2", "train.max_steps=6")
EXPERIMENT = """# @package _global_
defaults: [{override /dataset: digits}, {override /model: fastnet_tiny}]
train: {epochs: 2, max_steps: 6}
hydra: {sweeper: {params: {optimizer: "erm,sam", seed: "0"}}}
"""


def cell(*overrides):
    (only,) = compose_specs([*SMALL, *overrides])
    return only


@pytest.fixture(autouse=True)
def _same_threads_afterwards(monkeypatch):
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weights(results, this):
    return torch.load(results / "runs" / this.run_id / "best.pt", weights_only=True)


def test_a_resumed_run_keeps_its_number_of_threads(tmp_path, capsys):
    one, two = cell("optimizer=sam"), cell("optimizer=sam", "threads=2")
    assert one.run_id == two.run_id
    folders = [tmp_path / name for name in ("one", "two", "resumed")]
    made = [execute(this, folder) for this, folder in ((one, folders[0]), (two, folders[1]))]
    assert [record["provenance"]["hardware"]["threads"] for record in made] == [1, 2]
    alone = [weights(folder, one) for folder in folders[:2]]
    assert any(not torch.equal(alone[0][name], alone[1][name]) for name in alone[0])  # or this test shows nothing
    with pytest.raises(Stopped):
        execute(two, folders[2], stop=stop_after((3,)))
    assert checkpoint.load(folders[2] / "runs" / f"{two.run_id}.running", two.run_id)["threads"] == 2
    torch.set_num_threads(1)
    record = execute(one, folders[2])
    assert record["provenance"]["hardware"]["threads"] == 2
    assert "started with threads=2" in capsys.readouterr().err
    assert_same_run(folders[1], folders[2], one)


def test_threads_that_cannot_be_had_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    with pytest.raises(UsageError, match=r"needs 3 threads, but torch uses . here.*threads="):
        execute(cell("optimizer=erm", "threads=3"), tmp_path)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("value", ["0", "null", "1.5", "many"])
def test_threads_are_a_number(value):
    with pytest.raises(UsageError, match="threads"):
        cell(f"threads={value}")


def test_cells_with_more_threads_are_fewer_at_once(monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setattr(local, "gpus", lambda: [])
    for number, at_once in ((1, 8), (3, 2), (16, 1)):
        cells = [cell("optimizer=erm", f"seed={seed}", f"threads={number}") for seed in range(9)]
        assert len(local.slots(cells, None, 1)) == at_once
        assert len(local.slots(cells, 5, 1)) == 5


def test_the_environment_does_not_decide(monkeypatch):
    for name, value in {"OMP_NUM_THREADS": "7", "OMP_DYNAMIC": "TRUE", "OMP_THREAD_LIMIT": "1"}.items():
        monkeypatch.setenv(name, value)
    threads.before_torch()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_DYNAMIC"]) == ("1", "FALSE")
    assert "OMP_THREAD_LIMIT" not in os.environ


@pytest.mark.slow
def test_one_at_a_time_or_two_or_alone_or_fewer_pending_give_the_same_bits(tmp_path):
    """What was false while a worker took its share of the cores as threads."""
    folder = tmp_path / "configs" / "experiment"
    folder.mkdir(parents=True)
    (folder / "threads.yaml").write_text(EXPERIMENT)

    def bench(results, *words, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
        clean |= {"SAM_BENCH_CONFIGS": str(tmp_path / "configs"), "SAM_BENCH_RESULTS": str(results), **environment}
        done = subprocess.run([sys.executable, "-m", "sam_bench", *words], env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    two, mixed, three = (tmp_path / name for name in ("two", "mixed", "three"))
    bench(two, "sweep", "threads", "--jobs", "2")
    bench(mixed, "run", *SMALL, "optimizer=erm", OMP_NUM_THREADS="2")
    bench(mixed, "sweep", "threads", OMP_NUM_THREADS="3")  # one cell is pending
    bench(three, "sweep", "threads", "--jobs", "1")
    for optimizer in ("erm", "sam"):
        (this,) = compose_specs([*SMALL, f"optimizer={optimizer}"])
        assert_same_run(two, mixed, this)
        assert_same_run(two, three, this)
