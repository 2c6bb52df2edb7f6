"""sam-bench speed molecules: it runs at small sizes, prints and writes every part, and refuses what makes no sense."""

import argparse
import json
import sys

import pytest
import torch

from sam_bench.cli import main
from sam_bench.config.build import build_task
from sam_bench.config.compose import compose_specs
from sam_bench.datasets.molecules import assemble
from sam_bench.datasets.molecules.featurize import featurize
from sam_bench.errors import UsageError
from sam_bench.options.compiler import no_cpp_compiler
from sam_bench.speed import molecules, reading
from sam_bench.store.places import data_dir

SMALL = ["--dataset", "chembl2321810", "--model", "grover_small", "--set", "model.hidden=8", "--batch-size", "4",
         "--steps", "2", "--repeats", "1", "--device", "cpu"]  # fmt: skip


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    molecules.add_arguments(parser)
    return parser.parse_args([*SMALL, *words])


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(molecules.SIDE, "cpu", 64)


def test_it_prints_and_writes_every_part(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_alone", reading.set_up)  # importing torch twice more takes seconds
    file = tmp_path / "speed.json"
    assert main(["speed", "molecules", *SMALL, "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    for words in ("Reading chembl2321810", "from the cache", "Steps, fp32", "Steps, bf16", "graphsam", "batches alone",
                  "forward-backward alone", "training loop", "GFLOP per molecule", "n = 1 in turn"):  # fmt: skip
        assert words in printed
    found = json.loads(file.read_text())
    fp32 = found["steps"]["fp32"]
    assert found["molecules_per_second"] == fp32["molecules_per_second"]["erm"]["median"] > 0
    assert fp32["time_over_erm"]["erm"] == {"median": 1.0, "least": 1.0, "most": 1.0, "n": 1}
    assert set(fp32["time_over_erm"]) >= {"sam", "looksam", "graphsam"}
    assert fp32["share_of_peak"]["median"] > 0
    first, again = found["reading"]["first time"], found["reading"]["from the cache"]
    assert first["molecules"] == again["molecules"] == 1017
    assert again["features_seconds"] < first["features_seconds"]
    assert first["peak_bytes"] > 50 * 2**20
    assert assemble.featurize is featurize


def test_reading_is_watched_in_a_process_of_its_own(tmp_path):
    config = compose_specs(["model=grover_small", "dataset=chembl2321810"])[0].config
    found = reading._alone(config, tmp_path)
    assert 0 < found["features_seconds"] < found["setup_seconds"]
    assert found["molecules"] == 1017


def test_json_alone_is_all_of_the_output(capsys):
    words = [
        "--parts",
        "step",
        "--precision",
        "bf16",
        "--optimizers",
        "vsam",
        "--set",
        "model.hidden=16",
        "base.lr=0.5",
    ]
    assert main(["speed", "molecules", *SMALL, *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["steps"]) == ["bf16"]
    assert found["conditions"]["model"]["hidden"] == 16


THEIRS = """
import helper_of_theirs  # beside it, as in a checkout
import torch


def build(config):
    linear = torch.nn.Linear(1, config["num_outputs"])
    base = torch.optim.Adam(linear.parameters(), lr=config["base"]["lr"])

    def step(smiles, targets):
        helper_of_theirs.SEEN.append((list(smiles), targets, torch.rand(()).item()))
        base.zero_grad()
        (linear(torch.ones(len(smiles), 1)) - targets).square().mean().backward()
        base.step()

    return step
"""


def test_a_step_of_other_code_runs_in_turn_with_ours(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "helper_of_theirs.py").write_text("SEEN = []")
    (tmp_path / "theirs" / "sam_bench_step.py").write_text(THEIRS)
    words = ["--parts", "step", "--precision", "fp32", "--optimizers", "--against", str(tmp_path / "theirs")]
    found = molecules.run(parse(*words))["steps"]["fp32"]
    ours, theirs = (found["molecules_per_second"][arm]["median"] for arm in ("erm", "theirs (--against)"))
    assert found["times_as_fast"]["median"] == pytest.approx(ours / theirs)
    assert "times as fast as theirs (--against)" in capsys.readouterr().out
    seen = sys.modules.pop("helper_of_theirs").SEEN
    assert len(seen) == 2 * 2  # two batches, warmed up and measured once
    for smiles, targets, _ in seen:
        assert len(smiles) == len(targets) == 4
        assert all(isinstance(text, str) for text in smiles)
    assert seen[0][2] == seen[2][2] != seen[1][2], "each step has its own random numbers, in every turn the same"


def test_a_file_without_build_is_refused(tmp_path):
    (tmp_path / "step.py").write_text("")
    with pytest.raises(UsageError, match="has no function build"):
        molecules.run(parse("--parts", "step", "--against", str(tmp_path / "step.py")))
    with pytest.raises(UsageError, match="leave --parts reading out"):
        molecules.run(parse("--parts", "reading", "--against", str(tmp_path / "step.py")))


def test_operations_are_those_of_the_products_and_the_same_in_every_turn():
    config = compose_specs(["model=grover_small", "dataset=chembl2321810"])[0].config
    task = build_task(config, data_dir())
    few, again, more = (molecules.Work(parse("--steps", n), config, task, torch.device("cpu")) for n in "336")
    assert again.ready
    assert few.flops == again.flops < more.flops, "the passes that make the batches ready are not those of a step"
    assert (few.molecules, more.molecules) == (12, 24)


def test_products_that_are_added_to_a_sum_are_counted():
    calls = {
        "a product": lambda a, b: torch.mm(a, b),
        "one added in place": lambda a, b: torch.ones(4, 6).addmm_(a, b),
        "several added in place": lambda a, b: torch.ones(1, 4, 6).baddbmm_(a[None], b[None], alpha=0.5),
    }
    for name, call in calls.items():
        with molecules.counter() as counted:
            call(torch.ones(4, 5), torch.ones(5, 6))
        assert counted.get_total_flops() == 2 * 4 * 5 * 6, name


@pytest.mark.skipif(bool(no_cpp_compiler()), reason="needs a C++ compiler")
def test_native_kernels_are_measured_in_fp32_and_have_the_operations_of_torch(capsys):
    words = ["--parts", "step", "--optimizers", "--set", "model.hidden=8", "model.kernels=native"]
    assert main(["speed", "molecules", *SMALL, *words]) == 2
    assert "add --precision fp32" in capsys.readouterr().err
    found = molecules.run(parse(*words, "--precision", "fp32"))
    plain = molecules.run(parse(*words[:-1], "--precision", "fp32"))
    assert found["conditions"]["model"]["kernels"] == "native"
    assert found["gigaflop_per_molecule"] == plain["gigaflop_per_molecule"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "digits", "--model", "vit_ti", "--set", "model.depth=1"], "speed images"),
        (["--dataset", "chembl"], "Did you mean"),
        (["--set", "model.hiden=3"], "Did you mean"),
        (["--repeats", "0"], "from 1 on"),
        (["--batch-size", "5000"], "molecules to train on"),
        (["--clock", "cpu", "--threads", "2"], "one thread"),
        (["--set", "optimizer.rho=1"], "changes nothing here"),
        (["--against", "/nowhere"], "there is no file /nowhere/sam_bench_step.py"),
    ],
)
def test_wrong_requests(words, message):
    with pytest.raises(UsageError, match=message):
        molecules.run(parse("--parts", "step", *words))


@pytest.mark.gpu
def test_a_gpu_tells_how_long_it_waits():
    args = parse("--parts", "step", "--precision", "bf16", "--optimizers", "sam", "--device", "cuda")
    found = molecules.run(args)["steps"]["bf16"]
    assert 0 < found["launch_bound_share"] < 1
