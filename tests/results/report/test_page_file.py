"""The report as a file: whole, small, self-contained, and the same bytes from the same records."""

import base64
import gzip
import json
import re

import pytest
from support.fabricated import failed, grid, make_added, make_record, write, write_added

from sam_bench.errors import UsageError
from sam_bench.results.arms import blocks
from sam_bench.results.report.data import data as data_of
from sam_bench.results.report.page import page, report
from sam_bench.store import added, index

LIMIT = 3 * 2**20


def stored(results_dir, records):
    for record in records:
        write(results_dir, record)
    return index.load(results_dir, [record["run_id"] for record in records])


def packed(text):
    return json.loads(gzip.decompress(base64.b64decode(re.search(r'id="data">([^<]*)<', text)[1])))


def test_same_records_same_bytes(results_dir, tmp_path):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(3)))
    first = report({"one": records}, tmp_path / "new" / "a.html").read_bytes()
    assert report({"one": records}, tmp_path / "b.html").read_bytes() == first


def test_nothing_is_fetched_from_anywhere(results_dir):
    text = page({"one": stored(results_dir, grid(("erm", "sam"), seeds=range(2)))})
    links = re.findall(r'(?:src|href|action|srcset)="([^"]*)"', text)
    assert all(link.startswith(("#", "data:")) for link in links), links
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert "default-src 'none'" in text


def test_it_says_what_was_run_what_is_wrong_and_how_to_run_it_again(results_dir):
    records = grid(("erm", "sam"), seeds=range(2))
    records[0]["provenance"]["dirty"] = True
    records[1]["overrides"] = ["experiment=quick start", "optimizer=erm", "seed=1"]
    text = page({"quick": stored(results_dir, [*records, failed(make_record("vsam"))])})
    for part in ("4 finished, 1 failed", "bbbp", "dirty commit", "too few seeds", "the loss is not a number"):
        assert part in text, part
    assert "git checkout 0123456789" in text
    assert "sam-bench sweep quick " in text
    runs = {run["id"]: run for run in packed(text)["runs"]}
    assert runs[records[1]["run_id"]]["command"] == "sam-bench run 'experiment=quick start' optimizer=erm seed=1"
    assert runs[make_record("vsam")["run_id"]]["error"]["step"] == 12


def test_configuration_and_provenance_of_every_run_are_there(results_dir):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(3)))
    data = packed(page({"one": records}))
    assert len(data["runs"]) == 6
    assert len(data["configs"]) == 2  # what runs share is kept once
    sam = data["runs"][-1]
    assert data["configs"][sam["config"]]["optimizer.rho"] == 0.05
    assert data["provenances"][sam["provenance"]]["versions.torch"] == "2.13.0"
    assert sam["data"]["split_sha256"] == "5" * 64


def test_a_run_of_two_experiments_is_listed_once(results_dir):
    records = stored(results_dir, grid(("erm", "sam"), seeds=[0]))
    data = packed(page({"one": records, "two": records[:1]}))
    assert [run["experiments"] for run in data["runs"]] == [["one", "two"], ["one"]]
    assert [block["experiment"] for block in data["blocks"]] == ["one", "two"]


def test_mean_curves_by_hand(results_dir):
    records = stored(results_dir, grid(("sam",), seeds=range(2), epochs=3))
    (arm,) = data_of({"one": records}, {"one": blocks(records)})["blocks"][0]["arms"]
    ends = [record["metrics"]["valid/roc_auc"] for record in records]
    assert arm["curve"]["mean"][-1] == pytest.approx(sum(ends) / 2)
    assert arm["curve"]["std"][-1] == pytest.approx(abs(ends[0] - ends[1]) / 2**0.5)
    assert arm["curve"]["epoch"] == [1, 2, 3]


def test_what_was_measured_on_runs_is_there_and_nothing_where_nothing_was(results_dir):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(2), datasets=("bbbp", "esol")))
    for kind in added.KINDS:
        write_added(results_dir, records[0], kind)
        write_added(results_dir, records[1], kind)
    first, second = packed(page({"one": records}))["blocks"]
    assert second["measured"] is None
    points, planes, (trace,) = (first["measured"][key] for key in ("points", "planes", "traces"))
    one, two = (make_added(record, "sharpness") for record in records[:2])
    assert [point["gap"] for point in points] == pytest.approx([c["gap"]["loss"] for c in (one, two)], rel=1e-5)
    assert [point["trace"] for point in points] == pytest.approx([c["trace"]["mean"] for c in (one, two)], rel=1e-5)
    assert [(plane["arm"], plane["seed"], len(plane["losses"])) for plane in planes] == [("erm", 0, 5)]
    rows = [make_added(record, "gradients")["rows"] for record in records[:2]]
    means = []
    for row in rows:
        chosen = [c for c, epoch in zip(row["cos_g"], row["epoch"], strict=True) if epoch < 1 and c is not None]
        means.append(sum(chosen) / len(chosen))
    assert trace["n"] == 2
    assert trace["curves"]["cos_g"]["epoch"][0] == 1
    assert trace["curves"]["cos_g"]["mean"][0] == pytest.approx(sum(means) / 2, rel=1e-5)
    assert trace["curves"]["cos_g"]["std"][0] == pytest.approx(abs(means[0] - means[1]) / 2**0.5, rel=1e-4)


def test_hostile_names_stay_text(results_dir):
    record = make_record("sam")
    record["labels"]["dataset"] = "</script><script>alert(1)</script>"
    text = page({"<img src=x onerror=alert(1)>": [record]})
    assert "alert(1)</script>" not in text
    assert "<img" not in text


def test_a_thousand_runs_stay_far_under_the_limit():
    optimizers = ("erm", "sam", "looksam", "ae_sam", "graphsam", "vsam", "fsam", "gsam", "esam", "asam")
    records = grid(optimizers, seeds=range(10), datasets=[f"set{i}" for i in range(10)])
    size = len(page({"large": records}).encode())
    assert size < LIMIT / 4, size


def test_a_folder_that_cannot_be_written_gives_advice(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Cannot write"):
        report({"one": [make_record()]}, tmp_path / "file" / "report.html")
