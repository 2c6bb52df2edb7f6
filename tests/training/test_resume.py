"""The same run twice gives the same bits, and so does a run that was stopped or killed and taken up again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.runs import assert_same_run, run_to_the_end

from sam_bench.config import files
from sam_bench.config.compose import compose_specs
from sam_bench.training.life import execute

OPTIMIZERS = sorted(path.stem for path in (files.config_dir() / "optimizer").glob("*.yaml"))
SMALL = ("dataset=digits", "model=fastnet_tiny", "base=adam", "train.epochs=2", "train.batch_size=256")


def cell(*overrides):
    (only,) = compose_specs([*SMALL, *overrides])
    return only


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_and_resumed_equals_uninterrupted(optimizer, precision, tmp_path):
    own = ["base=amsgrad"] if optimizer == "adasam" else []  # around another base it would be plain SAM
    this = cell(f"optimizer={optimizer}", f"precision={precision}", "train.max_steps=9", *own)
    run_to_the_end(this, tmp_path / "a", ())
    record, stops = run_to_the_end(this, tmp_path / "b", (2, 3, 6, 9))  # 6 ends an epoch, 9 the run
    assert stops == 4
    assert record["provenance"]["resumed"] == 4
    assert_same_run(tmp_path / "a", tmp_path / "b", this)


def test_another_seed_gives_another_run(tmp_path):
    records = [execute(cell("optimizer=erm", f"seed={s}", "train.max_steps=3"), tmp_path) for s in (0, 1)]
    assert records[0]["metrics"] != records[1]["metrics"]
    assert records[0]["data"]["split_sha256"] == records[1]["data"]["split_sha256"]


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(tmp_path):
    command = [sys.executable, "-m", "sam_bench", "run", *SMALL, "optimizer=looksam", "train.epochs=4"]
    command.append("train.checkpoint_seconds=0")
    this = cell("optimizer=looksam", "train.epochs=4")
    folders = [tmp_path / "whole", tmp_path / "killed"]
    environments = [{**os.environ, "SAM_BENCH_RESULTS": str(folder)} for folder in folders]
    subprocess.run(command, env=environments[0], check=True, capture_output=True)
    process = subprocess.Popen(command, env=environments[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    previous = folders[1] / "runs" / f"{this.run_id}.running" / "checkpoint.previous.pt"
    deadline = time.monotonic() + 120
    while not previous.exists():  # two checkpoints are written: the run is in its middle
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folders[1] / "runs" / this.run_id).exists()
    subprocess.run(command, env=environments[1], check=True, capture_output=True)
    assert_same_run(*folders, this)
    resumed = json.loads((folders[1] / "runs" / this.run_id / "record.json").read_text())
    assert resumed["provenance"]["resumed"] == 1
