"""One run in two processes is the run of one process, also when it was stopped or killed and taken up again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from support import torchrun_cells
from support.runs import assert_same_run

from sam_bench.cli import main
from sam_bench.config.compose import compose_specs
from sam_bench.errors import UsageError
from sam_bench.training import processes
from sam_bench.training.life import execute

pytestmark = [pytest.mark.xdist_group("ranks"), pytest.mark.slow]  # they share two processes
REQUIRED = ("erm", "sam", "looksam", "ae_sam", "ae_looksam", "graphsam", "vsam")
IMAGES = ("dataset=digits", "model=vit_ti", "model.depth=1", "model.width=32", "model.heads=4", "base=sgd",
          "train.batch_size=200", "train.epochs=2")  # fmt: skip
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def required(optimizer, *more):
    return [*IMAGES, f"optimizer={optimizer}", *more]


LONG = required("looksam", "train.epochs=6")
BEGUN = required("erm", "train.epochs=3")
SECONDS = required("erm", "train.budget=seconds", "train.seconds=5")


def cell_of(overrides):
    (cell,) = compose_specs(overrides)
    return cell


def two_ranks(folder: Path, requests: list) -> list[str]:
    """What came of requests for cells (see torchrun_cells.py) in two processes, which say the same."""
    done = subprocess.run([*TORCHRUN, torchrun_cells.__file__, str(folder), json.dumps(requests)], capture_output=True,
                          text=True, timeout=400, env={**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [json.loads((folder / f"said.{rank}.json").read_text()) for rank in range(2)]
    assert said[0] == said[1]
    return said[0]


def molecules(path: Path) -> list[str]:
    """A cell on a file with two targets, of which many are missing, and not the same number on each rank."""
    rows = ["SMILES,first,second"]
    for n in range(1, 61):
        first, second = ("" if n % 3 == 0 else n / 7), ("" if n % 4 else -n)
        rows.append(f"{'C' * (n % 15 + 1)}{'O' * (n % 4)}{'N' * (n % 3)}{'C' * (n // 15)},{first},{second}")
    path.write_text("\n".join(rows) + "\n")
    return ["dataset=csv", f"dataset.path={path}", "dataset.smiles=SMILES", "dataset.targets=[first,second]",
            "dataset.kind=regression", "dataset.split=random", "model=grover_small", "base=sgd",
            "base.lr=0.01", "optimizer=sam", "train.batch_size=7", "train.epochs=2"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs of one process, of two, and of two stopped after three steps; the cells; refusals."""
    folder = tmp_path_factory.mktemp("ranks")
    cells = {name: required(name) for name in REQUIRED}
    cells |= {
        "long": LONG,
        "device": required("sam", "optimizer.m_sharpness=device"),
        "molecules": molecules(folder / "my.csv"),
        "compiled": required("sam", "compile=true"),
    }
    where = [("two", 0, "finished"), ("resumed", 3, "stopped"), ("resumed", 0, "finished")]
    requests = [(str(folder / name), steps, cell) for name, steps, _ in where for cell in cells.values()]
    refused = {"esam": required("esam"), "ausam": required("ausam"), "seconds": SECONDS,
               "no file": [*molecules(folder / "gone.csv"), f"dataset.path={folder}/none.csv"]}  # fmt: skip
    requests += [(str(folder / "refused"), 0, cell) for cell in refused.values()]
    said = two_ranks(folder, [*requests, (str(folder / "refused"), 3, BEGUN)])
    assert said[: 3 * len(cells)] == [end for *_, end in where for _ in cells]
    assert said[-1] == "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", torchrun_cells.without_code)
        for cell in cells.values():
            execute(cell_of(cell), folder / "one")
    said_of = dict(zip(refused, said[3 * len(cells) :], strict=False))
    return folder, {name: cell_of(cell) for name, cell in cells.items()}, said_of


def record_of(folder: Path, cell) -> dict:
    return json.loads((folder / "runs" / cell.run_id / "record.json").read_text())


@pytest.mark.parametrize("name", [*REQUIRED, "long", "molecules", "compiled"])
def test_two_processes_are_one(runs, name):
    folder, cells, _ = runs
    one, two = (record_of(folder / which, cells[name]) for which in ("one", "two"))
    assert [r["provenance"]["hardware"]["processes"] for r in (one, two)] == [1, 2]
    for key in ("steps", "samples", "grad_evals", "sam_fraction", "skipped_steps", "config", "data", "best_epoch"):
        assert one[key] == two[key], key
    weights = [
        torch.load(folder / which / "runs" / cells[name].run_id / "best.pt", weights_only=True)
        for which in ("one", "two")
    ]
    assert weights[0].keys() == weights[1].keys()  # the model's own names
    for key in weights[0]:
        torch.testing.assert_close(weights[1][key], weights[0][key], rtol=1e-4, atol=1e-5, msg=key)
    curves = [pd.read_csv(folder / which / "runs" / cells[name].run_id / "curve.csv") for which in ("one", "two")]
    columns = ["train/loss", "valid/loss"]
    pd.testing.assert_frame_equal(curves[0][columns], curves[1][columns], check_exact=False, rtol=1e-5)


def test_each_process_perturbs_by_its_own_part_if_asked(runs):
    folder, cells, _ = runs
    one, two = (record_of(folder / which, cells["device"])["metrics"] for which in ("one", "two"))
    assert one == record_of(folder / "one", cells["sam"])["metrics"]  # the part of a single process is the batch
    assert two["train/loss"] != pytest.approx(one["train/loss"], rel=1e-5)
    assert two["train/loss"] == pytest.approx(one["train/loss"], rel=0.1)


@pytest.mark.parametrize("name", [*REQUIRED, "long", "device", "molecules", "compiled"])
def test_two_stopped_processes_go_on_bit_for_bit(runs, name):
    folder, cells, _ = runs
    assert_same_run(folder / "two", folder / "resumed", cells[name])
    assert record_of(folder / "resumed", cells[name])["provenance"]["resumed"] == 1


def test_what_several_processes_cannot_do_is_refused(runs):
    folder, said = runs[0], runs[2]
    assert "ESAM chooses among the samples" in said["esam"]
    assert "AUSAM chooses among the samples" in said["ausam"]
    assert "train.budget=seconds" in said["seconds"]
    assert "no file" in said["no file"]
    assert [path.name for path in (folder / "refused" / "runs").iterdir()] == [f"{cell_of(BEGUN).run_id}.running"]
    with pytest.raises(UsageError, match=r"started with 2 process\(es\)"):
        execute(cell_of(BEGUN), folder / "refused")


@pytest.mark.slow
def test_one_rank_killed_and_the_same_command_again(runs, tmp_path):
    folder, cells, _ = runs
    this, killed = cells["long"], tmp_path / "killed"
    command = [*TORCHRUN, "-m", "sam_bench", "run", *LONG, "train.checkpoint_seconds=0"]
    environment = {**os.environ, "SAM_BENCH_RESULTS": str(killed)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    previous = killed / "runs" / f"{this.run_id}.running" / "checkpoint.previous.pt"
    deadline = time.monotonic() + 120
    while not previous.exists():  # two checkpoints are written: the run is in its middle
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    second = next(c for c in psutil.Process(process.pid).children() if c.environ().get("RANK") == "1")
    second.send_signal(signal.SIGKILL)
    message = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert [path.name for path in (killed / "runs").iterdir()] == [f"{this.run_id}.running"], message
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(this.run_id) == 1  # only the first process speaks
    assert_same_run(folder / "two", killed, this)
    assert record_of(killed, this)["provenance"]["resumed"] == 1


@pytest.mark.parametrize(("gpus", "expected"), [(2, [("set", 1), ("begin", "nccl"), ("end",)]), (1, [])])
def test_a_rank_takes_its_gpu_before_it_sends_anything(gpus, expected, monkeypatch):
    """NCCL sends from the GPU that is set: left alone, all ranks would sit on the first one."""
    events = []
    ranks = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: events.append(("set", number)))
    dist = processes.dist
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: events.append(("begin", backend)))
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: events.append(("end",)))
    refused = pytest.raises(UsageError, match="--nproc-per-node 1") if gpus == 1 else contextlib.nullcontext()
    with refused, processes.together("auto"):
        pass
    assert events == expected


def test_torchrun_is_for_one_run(results_dir, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["sweep", "digits"]) == 2
    assert "torchrun works with a single run" in capsys.readouterr().err
    assert not results_dir.exists()
