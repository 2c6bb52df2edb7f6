"""`sam-bench sharpness`: finished runs are measured, beside their records and never in them."""

import importlib.metadata
import json
import shutil

import pytest
import torch
from support.fabricated import SETTINGS, make_added, make_record, write

from sam_bench.api import RunSpec
from sam_bench.cli import main
from sam_bench.config import compose
from sam_bench.errors import UsageError
from sam_bench.sharpness import measure
from sam_bench.sharpness.surface import Surface
from sam_bench.store import added, index
from sam_bench.training.life import build

QUICK = ["--samples", "96", "--probes", "3", "--directions", "2", "--tolerance", "0.05"]
DIGITS = ["digits", "train.epochs=1", "device=cpu"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory):
    """Two finished runs of the digits, made once."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM_BENCH_RESULTS", str(folder))
        for cell in compose.plan("digits", ["optimizer=erm,sam", "seed=0", *DIGITS[1:]]):
            assert main(["run", *cell.overrides]) == 0
    return folder


@pytest.fixture
def digits(finished_runs, monkeypatch):
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(finished_runs))
    return finished_runs


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_it_adds_a_record_keeps_it_and_touches_no_run(digits, capsys):
    before = snapshot(digits / "runs")
    command = ["sharpness", *DIGITS, "optimizer=erm,sam", "seed=0", *QUICK]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "[2/2] digits-fastnet_tiny-sgd-sam-seed0" in said
    first = snapshot(digits / "sharpness")
    assert len(first) == 2
    assert main(command) == 0
    assert capsys.readouterr().out.count("(measured before)") == 2
    assert snapshot(digits / "sharpness") == first
    assert snapshot(digits / "runs") == before
    assert main([*command, "--rho", "0.1"]) == 0
    assert len(snapshot(digits / "sharpness")) == 4
    records = index.load(digits, [cell.run_id for cell in compose.plan("digits", command[2:6])])
    found = added.load(records, "sharpness")
    assert len(found) == 2
    assert len({json.dumps(content["settings"]) for content in found.values()}) == 1


def test_a_run_with_other_weights_is_named_and_does_not_stop_the_others(digits, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results"
    shutil.copytree(digits / "runs", results / "runs")
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(results))
    (weights,) = results.glob("runs/*-erm-seed0-*/best.pt")
    weights.write_bytes(weights.read_bytes() + b"x")
    assert main(["sharpness", *DIGITS, "optimizer=erm,sam", "seed=0", *QUICK]) == 1
    said = capsys.readouterr().out
    assert f"{weights} is not what the run wrote" in said
    assert "[1/1] digits-fastnet_tiny-sgd-sam-seed0" in said
    assert len(list((results / "sharpness").iterdir())) == 1


def test_the_record_says_what_was_measured_and_how(digits):
    main(["sharpness", *DIGITS, "optimizer=erm", "seed=0", *QUICK])
    (cell,) = compose.plan("digits", [*DIGITS[1:], "optimizer=erm", "seed=0"])
    (record,) = index.load(digits, [cell.run_id])
    content = added.load([record], "sharpness")[cell.run_id]
    assert content["subset"]["n"] == 96
    assert (content["mode"], content["augmented"], content["dtype"]) == ("eval", False, "float64")
    assert content["settings"]["m"] == cell.config["train"]["batch_size"]
    top = content["largest_eigenvalue"]
    assert top["converged"]
    assert top["residual"] <= 0.05 * top["value"]
    assert content["m_sharpness"]["n"] == 1  # the second group of 64 is not full
    assert content["m_sharpness"]["mean"] > 0
    assert content["data"] == {key: record["data"][key] for key in ("sha256", "split_sha256")}
    assert content["provenance"]["versions"]["torch"] == importlib.metadata.version("torch")
    gap = content["gap"]
    assert gap["loss"] == pytest.approx(record["metrics"]["test/loss"] - gap["train/loss"])
    assert gap["metric"] == pytest.approx(gap["train/accuracy"] - record["metrics"]["test/accuracy"])


def test_it_computes_with_the_runs_threads_and_says_so(digits, tmp_path, monkeypatch):
    """Sums depend on the number, and threads that wait for each other beside other work took minutes instead of one."""
    (cell,) = compose.plan("digits", [*DIGITS[1:], "optimizer=erm", "seed=0"])
    found = measure.finished(cell, digits)
    settings = measure.settings_of("sharpness", {**SETTINGS["sharpness"], "samples": 64, "probes": 1}, cell)
    used, before = [], torch.get_num_threads()
    monkeypatch.setattr(measure, "_sharpness", lambda *_: used.append(torch.get_num_threads()) or {})
    monkeypatch.setattr(added, "write", lambda path, content: written.append(content))
    for threads in (1, 2):
        written = []
        found.record["provenance"]["hardware"]["threads"] = threads
        measure.measure("sharpness", found, settings, tmp_path)
        assert written[0]["provenance"]["hardware"]["threads"] == threads
    assert used == [1, 2]
    assert torch.get_num_threads() == before


def test_measuring_twice_gives_the_same_numbers(digits, tmp_path):
    (cell,) = compose.plan("digits", [*DIGITS[1:], "optimizer=sam", "seed=0"])
    found = measure.finished(cell, digits)
    options = {"samples": 64, "m": 0, "rho": 0.05, "ascent_steps": 2, "tolerance": 0.1, "products": 9, "probes": 2,
               "directions": 2, "seed": 1}  # fmt: skip
    contents = []
    for name in ("a", "b"):
        path, new = measure.measure(
            "sharpness", found, measure.settings_of("sharpness", options, cell), tmp_path / name
        )
        assert new
        contents.append(added.read(path))
    for content in contents:
        del content["seconds"], content["provenance"], content["sha256"]
    assert contents[0] == contents[1]


def test_successive_gradients_come_from_the_very_same_training(digits, capsys):
    assert main(["sharpness", *DIGITS, "optimizer=erm,sam", "seed=0", "--gradients", "--every", "4"]) == 0
    assert capsys.readouterr().out.count("the same final weights as the run") == 2
    for path in (digits / "gradients").iterdir():
        content = added.read(path)
        rows = content["rows"]
        assert content["same_weights"]
        assert rows["step"][:4] == [0, 1, 4, 5]
        assert rows["cos_g"][0] is None
        assert all(-1 <= value <= 1 for value in rows["cos_g"][1::2])
        against = 1.0 if content["labels"]["optimizer"] == "sam" else rows["cos_direction_g_s"][0]
        assert rows["cos_direction_g_s"] == pytest.approx([against] * len(rows["step"]), abs=0.3)
        if content["labels"]["optimizer"] == "sam":  # its direction is g_s itself
            assert rows["cos_direction_g_s"] == pytest.approx([1.0] * len(rows["step"]), abs=1e-6)
            assert rows["norm_direction"] == pytest.approx(rows["norm_g_s"], rel=1e-5)
        else:
            assert rows["norm_direction"] == pytest.approx(rows["norm_g"], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["graphsam", "vsam", "ausam", "msam"])
def test_watching_changes_no_bit(optimizer, results_dir):
    """With momentum, dropout, augmentation and label noise, and methods that draw and remember."""
    overrides = ["dataset=chembl2321810", "model=grover_small", "model.dropout=0.1", "train.max_steps=7", "device=cpu",
                 "train.epochs=1", f"optimizer={optimizer}"]  # fmt: skip
    assert main(["run", *overrides]) == 0
    (cell,) = compose.compose_specs(overrides)
    path, _ = measure.measure("gradients", measure.finished(cell, results_dir), {"every": 2, "rho": 0.05}, results_dir)
    content = added.read(path)
    assert content["same_weights"]
    assert content["rows"]["step"] == list(range(7))


def test_a_landscape_has_the_run_in_its_middle(digits):
    assert (
        main(["sharpness", *DIGITS, "optimizer=erm", "seed=0", "--landscape", "--samples", "64", "--points", "3"]) == 0
    )
    (path,) = (digits / "landscape").iterdir()
    content = added.read(path)
    assert content["axis"] == [-1.0, 0.0, 1.0]
    assert [len(row) for row in content["losses"]] == [3, 3, 3]
    assert content["losses"][1][1] == min(value for row in content["losses"] for value in row)


MOLECULE_MODELS = ["grover_small", "compt", "gine", "attentive_fp"]


@pytest.mark.parametrize("model", MOLECULE_MODELS)
def test_molecule_models_can_be_differentiated_twice(model):
    (cell,) = compose.compose_specs(["dataset=chembl2321810", f"model={model}", "device=cpu"])
    task, network = build(cell, CPU)
    index = task.splits["train"][:3]
    surface = Surface(
        network, [task.collate(index)], lambda net, batch: task.loss(net(batch), batch, getattr(net, "penalty", None))
    )
    v = torch.randn(len(surface), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    near = 1e-8 * v
    numeric = (surface.gradient(near) - surface.gradient(-near)) / 2e-8
    assert (surface.product(v) - numeric).norm() < 1e-4 * numeric.norm()


def test_the_hessian_of_a_small_grover_is_that_of_torch():
    """Against torch.autograd.functional.hessian over the last prediction head."""
    (cell,) = compose.compose_specs(
        ["dataset=chembl2321810", "model=grover_small", "model.hidden=4", "model.head_hidden=2"]
    )
    task, network = build(cell, CPU)
    batch = task.collate(task.splits["train"][:4])
    surface = Surface(network, [batch], lambda net, b: task.loss(net(b), b, net.penalty))
    dense = torch.stack([surface.product(v) for v in torch.eye(len(surface), dtype=torch.float64)[-40:]])
    assert torch.allclose(dense[:, -40:], dense[:, -40:].T, rtol=1e-8, atol=1e-12)  # a Hessian is symmetric
    names = [name for name, _ in surface.model.named_parameters()]
    last = {name: p for name, p in surface.model.named_parameters() if name.startswith("heads.1")}
    assert names[-len(last) :] == list(last)

    def loss(*weights):
        out = torch.func.functional_call(surface.model, dict(zip(last, weights, strict=True)), (surface.batches[0],))
        return task.loss(out, surface.batches[0], surface.model.penalty).mean()

    blocks = torch.autograd.functional.hessian(loss, tuple(p.detach() for p in last.values()))
    sizes = [p.numel() for p in last.values()]
    whole = torch.cat([torch.cat([b.reshape(m, n) for b, n in zip(row, sizes, strict=True)], 1)
                       for row, m in zip(blocks, sizes, strict=True)])  # fmt: skip
    k = min(40, sum(sizes))
    assert torch.allclose(dense[-k:, -k:], whole[-k:, -k:], rtol=1e-6, atol=1e-10)


# -- what cannot be measured -------------------------------------------------------------------------------------------


def refused(arguments, capsys):
    assert main(["sharpness", *arguments]) == 2
    return capsys.readouterr().err


def test_records_without_weights_are_refused_with_advice(results_dir, capsys, monkeypatch):
    assert "sam-bench sweep digits" in refused(["digits"], capsys)
    record = make_record()
    write(results_dir, record)
    cells = [RunSpec(record["run_id"], record["labels"], (), record["config"], None)]
    monkeypatch.setattr(compose, "plan", lambda *_: cells)
    assert "no best.pt" in refused(["digits"], capsys)


@pytest.mark.parametrize("option", [["--samples", "0"], ["--rho", "-1"], ["--probes", "0"], ["--m", "-2"]])
def test_settings_that_make_no_sense_are_refused(digits, capsys, option):
    assert "must be positive" in refused([*DIGITS, *option], capsys)


def test_other_data_than_the_runs_are_refused(digits):
    (cell,) = compose.plan("digits", [*DIGITS[1:], "optimizer=erm", "seed=0"])
    found = measure.finished(cell, digits)
    found.record["data"]["split_sha256"] = "another"
    with pytest.raises(UsageError, match="another split"):
        measure.measure("landscape", found, {"samples": 8, "m": 8, "points": 1, "span": 1.0, "seed": 9}, digits)


# -- the files ---------------------------------------------------------------------------------------------------------


def content_of(record, value=1.0, **changes):
    data = {key: record["data"][key] for key in ("sha256", "split_sha256")}
    return {
        **make_added(record, "sharpness"),
        "settings": SETTINGS["sharpness"] | {"rho": 0.05},
        "data": data,
        "value": value,
    } | changes


def put(results_dir, content):
    path = added.place(results_dir, content["kind"], content["run_id"], content["settings"], "w")
    return path, added.write(path, content)


def test_an_added_record_is_never_replaced(results_dir):
    record = make_record()
    write(results_dir, record)
    path, first = put(results_dir, content_of(record))
    assert first
    assert put(results_dir, content_of(record, 2.0)) == (path, False)
    assert added.read(path)["value"] == 1.0
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_measurements_of_one_kind_of_settings_are_read_together(results_dir):
    records = [make_record(seed=seed) for seed in range(3)]
    for record in records:
        write(results_dir, record)
    for record in records[:2]:
        put(results_dir, content_of(record, settings=SETTINGS["sharpness"] | {"rho": 0.1}))
    put(results_dir, content_of(records[2]))
    put(results_dir, content_of(records[0]))
    put(
        results_dir,
        content_of(
            records[0], settings=SETTINGS["sharpness"] | {"rho": 0.2}, data={"sha256": "x", "split_sha256": "y"}
        ),
    )
    loaded = index.load(results_dir, [record["run_id"] for record in records])
    assert {name: c["settings"]["rho"] for name, c in added.load(loaded, "sharpness").items()} in (
        {records[0]["run_id"]: 0.1, records[1]["run_id"]: 0.1},
        {records[0]["run_id"]: 0.05, records[2]["run_id"]: 0.05},
    )
    assert added.load(loaded, "landscape") == {}
    assert added.load([make_record()], "sharpness") == {}  # a record that lies nowhere


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 9, "kind": "sharpness"}'])
def test_a_damaged_or_newer_file_is_named(results_dir, text):
    record = make_record()
    write(results_dir, record)
    path, _ = put(results_dir, content_of(record))
    path.write_text(text)
    with pytest.raises(UsageError, match=path.name):
        added.load(index.load(results_dir), "sharpness")
