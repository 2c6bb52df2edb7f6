"""--per-gpu auto: how many cells fit on a GPU, by nvidia-smi and by finished runs; such runs' timings are marked."""

import argparse
import subprocess
from types import SimpleNamespace

import psutil
import pytest
from support.fabricated import make_record, write

from sam_bench.commands.words import number_or_auto
from sam_bench.results.arms import blocks
from sam_bench.results.fairness import disturbed
from sam_bench.sweeps import sharing
from sam_bench.sweeps.engines import local

GIB = 2**30
HARDWARE = {"device": "cuda", "name": "Some GPU", "cores": 16, "threads": 1, "memory_bytes": 80 * GIB}


def on_gpu(peak=4 * GIB, **changes):
    record = make_record(**changes)
    record["provenance"]["hardware"] = HARDWARE
    return record | {"peak_memory_bytes": peak}


def cell_of(record):
    return SimpleNamespace(labels=record["labels"], config=record["config"])


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Two GPUs with 80 and 40 GiB free, 16 cores, no MPS."""
    told = "0, GPU-a, 81920\n1, GPU-b, 40960\n"
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=told))
    monkeypatch.setattr(local, "gpus", lambda: ["0", "1"])
    monkeypatch.setattr(local, "cores", lambda: 16)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path / "mps"))
    return tmp_path


def test_the_largest_run_of_this_kind_and_the_fullest_gpu_decide(machine):
    cells = [cell_of(on_gpu()), cell_of(on_gpu(dataset="bace"))]
    assert sharing.cells_per_gpu(cells, machine).cells == 1
    for record in (on_gpu(optimizer="erm", peak=2 * GIB), on_gpu(seed=1), on_gpu(dataset="bace", peak=GIB)):
        write(machine, record)
    other = on_gpu(seed=2, peak=90 * GIB)
    other["config"]["train"]["batch_size"] = 512
    write(machine, other)
    found = sharing.cells_per_gpu(cells, machine)
    assert found.cells == int(0.9 * 40 / (1 + 1.5 * 4)) == 5
    assert "40.0 GiB are free" in found.why
    assert "take turns" in found.why


def test_cores_and_mps_bound_the_number(machine, monkeypatch):
    write(machine, on_gpu(peak=GIB // 64))
    cells = [cell_of(on_gpu())]
    assert sharing.cells_per_gpu(cells, machine) == sharing.Sharing(
        8, "2 GPU(s) and 16 cores; without MPS they take turns"
    )
    monkeypatch.setattr(local, "cores", lambda: 400)
    (machine / "mps").mkdir()
    (machine / "mps" / "control").touch()
    assert "MPS runs" in sharing.cells_per_gpu(cells, machine).why
    assert sharing.cells_per_gpu(cells, machine).cells == int(0.9 * 40 / (1 + 1.5 / 64)) == 35


def test_where_nothing_is_known_one_cell_runs(machine, monkeypatch):
    monkeypatch.setenv("PATH", "")
    write(machine, make_record())  # of a CPU
    assert "bbbp-grover" in sharing.cells_per_gpu([cell_of(make_record())], machine).why
    monkeypatch.setattr(local, "gpus", lambda: ["GPU-c"])
    assert sharing.cells_per_gpu([cell_of(make_record())], machine).cells == 1


def test_a_gpu_is_named_by_its_number_or_its_uuid(machine, monkeypatch):
    assert sharing.free_bytes() == [80 * GIB, 40 * GIB]
    monkeypatch.setattr(local, "gpus", lambda: ["GPU-b"])
    assert sharing.free_bytes() == [40 * GIB]


def test_the_word_is_a_number_or_auto():
    assert [number_or_auto(text) for text in ("auto", "3")] == ["auto", 3]
    with pytest.raises(argparse.ArgumentTypeError, match="auto, not 'many'"):
        number_or_auto("many")


def test_timings_of_a_shared_gpu_are_marked():
    alone, shared = ([on_gpu(seed=seed) for seed in range(2)] for _ in range(2))
    for record in shared:
        record["provenance"]["hardware"] = HARDWARE | {"cells_on_gpu": 3}
    assert not disturbed(blocks(alone)[0].arms[0])
    assert disturbed(blocks(shared)[0].arms[0]) == "several cells shared a GPU"


@pytest.mark.parametrize(("name", "runs"), [("nvidia-cuda-mps-control", True), ("python", False), (None, False)])
def test_mps_is_known_by_its_process(name, runs, monkeypatch):
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setattr(psutil, "process_iter", lambda attributes: [SimpleNamespace(info={"name": name})])
    assert sharing.mps_runs() is runs
