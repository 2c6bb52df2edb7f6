"""sam-bench speed optimizers: it runs at the smallest sizes, counts passes and memory, refuses what makes no sense."""

import json
import statistics

import pytest

from sam_bench.cli import main

SMALL = ["speed", "optimizers", "--model", "mlp", "--batch-size", "4", "--steps", "2", "--repeats", "2",
         "--device", "cpu"]  # fmt: skip


def rows(capsys, *words: str) -> dict:
    assert main([*SMALL, *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {row["method"]: row for row in found["rows"]} | {"conditions": found["conditions"]}


@pytest.mark.slow
def test_passes_and_memory_beside_another_package(capsys):
    pytest.importorskip("pytorch_optimizer")
    names = ("erm", "sam", "looksam", "fsam", "asam")
    found = rows(capsys, "--optimizers", *names, "--against", "pytorch_optimizer", "--clock", "cpu")
    assert found["erm"]["passes_per_step"] == 1
    assert found["sam"]["passes_per_step"] == found["sam (pytorch_optimizer)"]["passes_per_step"] == 2
    assert found["looksam (pytorch_optimizer)"]["passes_per_step"] > found["looksam"]["passes_per_step"]
    assert found["erm"]["extra_memory"] == pytest.approx(0, abs=0.01)
    assert found["sam"]["extra_memory"] > 0.99
    for name in ("sam", "fsam", "asam"):  # at most one vector more
        assert found[name]["extra_memory"] < found[f"{name} (pytorch_optimizer)"]["extra_memory"] + 1.01
    assert [len(found["sam"][key]) for key in ("ratio", "overhead_percent", "own_percent")] == [2, 2, 2]
    assert found["conditions"]["threads"] == 1


def test_the_table(capsys, tmp_path):
    file = tmp_path / "cost.json"
    assert main([*SMALL, "--optimizers", "sam", "--base", "sgd", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "Cost of a step" in printed
    assert "| sam | 2.00 |" in printed
    assert "Cost of a part of a pass" not in printed
    assert json.loads(file.read_text())["conditions"]["base"] == "sgd"


def test_a_part_of_a_pass_has_its_measured_cost(capsys):
    assert main([*SMALL, "--batch-size", "8", "--optimizers", "erm", "esam", "ausam", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = {(row["samples"], row["backward"]): row for row in found["parts"]}
    assert {row["of"] for row in parts.values()} == {8}
    assert (8, True) not in parts
    assert {(8, False), (4, True)} <= parts.keys()  # ESAM's forward pass, half a batch of AUSAM
    half, rows = statistics.median(parts[4, True]["ratio"]), {row["method"]: row for row in found["rows"]}
    assert rows["erm"]["floor"] == 1
    assert rows["erm"]["beyond_floor_percent"] == pytest.approx(rows["erm"]["overhead_percent"])
    assert rows["ausam"]["floor"] == pytest.approx(2 * half)
    assert rows["ausam"]["passes_per_step"] == 1
    assert len(rows["ausam"]["beyond_floor_percent"]) == 2


def test_a_model_of_images_and_one_of_molecules(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path))
    whole = rows(capsys, "--model", "fastnet_tiny", "--optimizers", "erm")["conditions"]["parameters"]
    words = ["--model", "grover_small", "--set", "model.hidden=8", "base.lr=0.01", "--optimizers", "graphsam"]
    found = rows(capsys, *words)
    assert 0 < found["conditions"]["parameters"] < whole
    assert found["graphsam"]["passes_per_step"] == 1.5  # the exact gradient once in an epoch of two steps


def test_keys_of_the_base_reach_the_base(capsys):
    """With learning rate 1e30 nothing stays finite, and the method says that it skipped."""
    with pytest.warns(UserWarning, match="skipped 5 steps in a row"):
        assert main([*SMALL, "--optimizers", "sam", "--base", "sgd", "--set", "base.lr=1e30"]) == 0
    assert "left out: sam met a loss or gradient that is not finite" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "message"), [
    (["--model", "gover"], "Did you mean 'grover'"),
    (["--base", "adm"], "Did you mean 'adam'"),
    (["--optimizers", "smam"], "Did you mean 'sam"),
    (["--set", "model.hidden=3"], "--set model.hidden=3 changes nothing here"),
    (["--set", "base.lrr=3"], "unknown key 'base.lrr'"),
    (["--clock", "cpu", "--threads", "2"], "one thread"),
    (["--steps", "0"], "from 1 on"),
])  # fmt: skip
def test_wrong_requests(words, message, capsys):
    assert main([*SMALL, *words]) == 2
    assert message in capsys.readouterr().err
