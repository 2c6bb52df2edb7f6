"""Precision and compilation as the device allows: what is chosen, what is compiled and how often, what stays plain."""

import json
import os
import subprocess
import sys
from types import MappingProxyType

import pytest
import torch
from support.runs import assert_same_run, run_to_the_end
from support.torchrun_cells import without_code
from torch._dynamo.utils import counters

from sam_bench.cli import main
from sam_bench.config.build import build_model, build_task
from sam_bench.config.compose import compose_specs
from sam_bench.errors import UsageError
from sam_bench.store import places
from sam_bench.training import compiled, precision
from sam_bench.training.life import Stopped, build_trainer, execute
from sam_bench.training.precision import Arithmetic, choose

CPU = torch.device("cpu")
# 1437 digits: seven batches of 200 and one of 37
SMALL = ("dataset=digits", "model=fastnet_tiny", "model.widths=[4,8]", "base=sgd", "train.epochs=2",
         "train.batch_size=200", "train.eval_batch_size=64", "device=cpu")  # fmt: skip
TIMES = ("train_seconds", "eval_seconds", "setup_seconds", "throughput", "peak_memory_bytes", "provenance", "files",
         "sha256")  # fmt: skip


def cell(*overrides):
    (only,) = compose_specs([*SMALL, *overrides])
    return only


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without the code: dynamo and autograd's tracing are its own, the operations are torch's."""
    monkeypatch.setattr(torch, "compile", without_code)
    counters.clear()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


# -- what is chosen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32"), ({}, "fp32")],
)
def test_auto_is_bf16_where_the_cpu_multiplies_it(capabilities, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))
    config = cell("precision=auto", "compile=auto").config
    assert choose(config, CPU) == Arithmetic(precision, compiled=False)


@pytest.mark.parametrize(
    ("words", "precision"),
    [(["model=grover"], "bf16"), (["model=grover_small"], "fp32"), (["model=grover_small", "model.hidden=100"], "bf16"),
     (["model=grover", "model.hidden=96"], "fp32"), (["model=gine"], "fp32"),
     (["model=grover", "model.kernels=native"], "fp32")],
)  # fmt: skip
def test_auto_on_a_cpu_is_bf16_for_molecules_only_where_it_is_faster(words, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType({"amx_bf16": True}))
    (molecules,) = compose_specs(["dataset=bbbp", "precision=auto", *words])
    assert choose(molecules.config, CPU).precision == precision


@pytest.mark.parametrize(
    ("capability", "triton", "chosen"),
    [((9, 0), True, Arithmetic("bf16", True)), ((8, 0), False, Arithmetic("bf16", False)),
     ((7, 5), True, Arithmetic("fp32", True)), ((6, 1), True, Arithmetic("fp32", False))],
)  # fmt: skip
def test_auto_on_a_gpu(capability, triton, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: object() if triton else None)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: name)
    gpu = torch.device("cuda")
    assert choose(cell("precision=auto", "compile=auto").config, gpu) == chosen
    (molecules,) = compose_specs(["dataset=bbbp", "model=grover_small", "compile=auto"])
    assert not choose(molecules.config, gpu).compiled
    (molecules,) = compose_specs(["dataset=bbbp", "model=grover_small", "precision=auto"])
    assert choose(molecules.config, gpu).precision == chosen.precision
    if not chosen.compiled:
        with pytest.raises(UsageError, match="compile=false"):
            choose(cell("compile=true").config, gpu)


def test_what_was_given_is_taken():
    assert choose(cell("precision=fp16").config, CPU) == Arithmetic("fp16", compiled=False)
    old = {"config": {"precision": "bf16"}, "provenance": {}}  # a record from before there was a choice
    assert precision.of_record(old) == Arithmetic("bf16", compiled=False)


def test_names_of_runs():
    """The key at its default is not in the name: runs from before it keep theirs."""
    names = {words: cell(*words).run_id for words in [(), ("compile=false",), ("compile=auto",), ("compile=true",)]}
    assert names[()] == names[("compile=false",)]
    assert len(set(names.values())) == 3
    assert cell("precision=auto").run_id != cell("precision=fp32").run_id


# -- what is refused -----------------------------------------------------------------------------------------------


def test_molecules_are_refused(capsys, results_dir):
    assert main(["run", "dataset=bbbp", "model=grover_small", "compile=true"]) == 2
    assert "compile=true is for images" in capsys.readouterr().err
    assert not results_dir.exists()


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_no_cpp_compiler_is_said_before_anything_is_built(device, capsys, results_dir, monkeypatch):
    if device == "auto" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["run", *SMALL, f"device={device}", "compile=true"]) == 2
    message = capsys.readouterr().err
    assert "no C++ compiler (no-such-compiler" in message
    assert "compile=false" in message
    assert not results_dir.exists()


def test_a_failure_of_the_compiler_ends_in_what_to_do(tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("internal error 42")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, *, dynamic, options: real(model, backend=broken))
    with pytest.raises(UsageError, match=r"(?s)internal error 42.*compile=false"):
        execute(cell("optimizer=sam", "compile=true"), tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_a_compiler_that_computes_something_else_is_found(tmp_path, monkeypatch):
    def wrong(model, *, dynamic, options):
        return lambda batch: model(batch) * torch.nan

    monkeypatch.setattr(torch, "compile", wrong)
    with pytest.raises(UsageError, match=r"another gradient.*compile=false"):
        execute(cell("optimizer=sam", "compile=true"), tmp_path)
    assert list(tmp_path.rglob("*")) == []


# -- what is compiled ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "compilations"),
    [("erm", 1), ("sam", 1), ("esam", 2), ("ausam", 2), ("vsam", 1), ("sam_every_k", 1)],
)
def test_compiled_once_and_the_same_run(optimizer, compilations, traced, tmp_path):
    """The last batch, chosen samples and evaluation go through the plain model: one graph, and one without gradient
    for methods that choose samples. With torch's own operations the numbers are the plain run's."""
    records = [execute(cell(f"optimizer={optimizer}", f"compile={c}"), tmp_path / c) for c in ("false", "true")]
    assert graphs() == compilations
    plain, compiled = records
    assert (plain["provenance"]["compiled"], compiled["provenance"]["compiled"]) == (False, True)
    for key in plain.keys() - {*TIMES, "run_id", "config", "overrides", "metrics"}:
        assert plain[key] == compiled[key], key
    assert compiled["metrics"] == pytest.approx(plain["metrics"], rel=1e-3)
    assert compiled["setup_seconds"] > plain["setup_seconds"]


def test_weights_go_from_one_to_the_other(traced, tmp_path):
    """best.pt and the checkpoint have the plain model's names, whichever made them."""
    this = cell("optimizer=sam", "compile=true", "train.max_steps=2")
    execute(this, tmp_path)
    weights = torch.load(tmp_path / "runs" / this.run_id / "best.pt", weights_only=True)
    plain = build_model(this.config, build_task(this.config, places.data_dir()))
    assert plain.state_dict().keys() == weights.keys()
    plain.load_state_dict(weights)
    trainers = [build_trainer(this, CPU, Arithmetic("fp32", compiled)) for compiled in (True, False)]
    for one, other in (trainers, trainers[::-1]):
        other.load_state_dict(one.state_dict())


@pytest.mark.parametrize("optimizer", ["looksam", "esam", "ausam"])
def test_stopped_and_resumed_compiled(optimizer, traced, tmp_path):
    this = cell(f"optimizer={optimizer}", "compile=true", "train.max_steps=11")
    run_to_the_end(this, tmp_path / "a", ())
    record, stops = run_to_the_end(this, tmp_path / "b", (3, 8))  # 8 ends an epoch
    assert stops == 2
    assert record["provenance"]["resumed"] == 2
    assert_same_run(tmp_path / "a", tmp_path / "b", this)


def test_warming_up_changes_nothing(traced):
    """Weights, running statistics, gradients, random generators, counters."""
    (this,) = compose_specs(["dataset=digits", "model=vit_ti", "model.depth=1", "model.width=8", "model.heads=2",
                             "model.dropout=0.1", "optimizer=esam"])  # fmt: skip
    plain, compiled = (build_trainer(this, CPU, Arithmetic("fp32", how)).state_dict() for how in (False, True))
    assert plain["clock"]["seconds"]["setup"] < compiled["clock"]["seconds"].pop("setup")
    torch.testing.assert_close(plain["model"], compiled["model"], rtol=0, atol=0)
    assert plain["optimizer"] == compiled["optimizer"]
    assert torch.equal(plain["rng"][0]["torch"], compiled["rng"][0]["torch"])


def test_a_resumed_run_keeps_its_precision(tmp_path, monkeypatch):
    """Begun where bf16 is multiplied, gone on with where it is not."""
    this = cell("optimizer=sam", "precision=auto", "compile=auto", "train.max_steps=6")
    records = []
    for folder, stop in (("whole", ()), ("moved", (3,))):
        monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
        calls = iter(range(1, 100))

        def stops(stop=stop, calls=calls):
            monkeypatch.setattr(precision, "multiplies_bf16", lambda device: False)
            return next(calls) in stop

        if stop:
            with pytest.raises(Stopped):
                execute(this, tmp_path / folder, stop=stops)
        records.append(execute(this, tmp_path / folder, stop=stops)["provenance"])
    assert [(made["precision"], made["resumed"]) for made in records] == [("bf16", 0), ("bf16", 1)]
    assert_same_run(tmp_path / "whole", tmp_path / "moved", this)


def test_begun_compiled_and_gone_on_with_where_that_cannot_be(traced, tmp_path, monkeypatch):
    this = cell("optimizer=erm", "compile=true", "train.max_steps=6")
    with pytest.raises(Stopped):
        execute(this, tmp_path, stop=lambda: True)
    monkeypatch.setattr(precision, "choose", lambda config, device: Arithmetic("fp32", compiled=False))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"started with compile.*no-such-compiler"):
        execute(this, tmp_path)
    assert (tmp_path / "runs" / f"{this.run_id}.running" / "checkpoint.pt").exists()


PROGRAM = """
import json, sys
from pathlib import Path
from sam_bench.config.compose import compose_specs
from sam_bench.training.life import Stopped, execute
(cell,) = compose_specs(json.loads(sys.argv[2]))
calls = iter(range(1, 100))
stops = json.loads(sys.argv[3])
while True:
    try:
        execute(cell, Path(sys.argv[1]), stop=lambda: next(calls) in stops)
        break
    except Stopped:
        pass
"""


@pytest.mark.slow
def test_real_code_with_deterministic_kernels_twice(tmp_path):
    """Written by torch's compiler, in two processes, of which the second is stopped once: the same bits.

    In bf16, on a model whose gradient was NaN when torch left out the rounding (of `amax`).
    """
    overrides = [*SMALL, "model.widths=[4]", "optimizer=sam", "compile=true", "precision=bf16", "train.max_steps=9"]
    this = cell(*overrides[len(SMALL) :])
    record = execute(this, tmp_path / "a")
    command = [sys.executable, "-c", PROGRAM, tmp_path / "b", json.dumps(overrides), json.dumps([4])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "a", tmp_path / "b", this)
    assert record["skipped_steps"] == 0
    assert record["provenance"]["precision"] == "bf16"


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sam", "esam"])
def test_compiled_on_a_gpu_twice_gives_the_same_bits(optimizer, tmp_path):
    this = cell(f"optimizer={optimizer}", "device=cuda", "precision=auto", "compile=auto")
    a, b = (execute(this, tmp_path / folder) for folder in "ab")
    assert a["provenance"]["compiled"]
    assert a["metrics"] == b["metrics"]
