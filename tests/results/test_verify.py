"""Compliance: edited records, unfair comparisons and weak evidence are found, and nothing else."""

import copy

import pytest
from support.fabricated import edit as seal
from support.fabricated import failed, grid, make_record, write

from sam_bench.results.tables.table import table
from sam_bench.results.verify import describe, verify
from sam_bench.store import index
from sam_bench.store.identity import run_id


def stored(results_dir, records):
    for record in records:
        write(results_dir, record)
    return index.load(results_dir, [record["run_id"] for record in records])


def reconfigured(record, group, key, value, **changes):
    """The same run under another configuration, rightly named."""
    record = copy.deepcopy(record) | changes
    part = record["config"] if group is None else record["config"].setdefault(group, {})
    part[key] = value
    record["run_id"] = run_id(record["labels"], record["config"])
    return record


def checks(findings, level):
    return {finding.check for finding in findings if finding.level == level}


def test_sound_records_give_no_finding(results_dir):
    findings = verify(stored(results_dir, grid(("erm", "sam", "vsam"), seeds=range(6))))
    assert findings == []
    assert "nothing is wrong" in describe(findings)


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (lambda r: r["config"]["optimizer"].update(rho=9.0), "identity"),
        (lambda r: r.update(grad_evals=r["grad_evals"] + 1), "curve"),
        (lambda r: r["metrics"].update({"valid/roc_auc": 0.99}), "curve"),
        (lambda r: r.update(best_epoch=1), "curve"),
    ],
)
def test_an_edited_record_is_found(results_dir, edit, check):
    record = make_record("sam")
    folder = write(results_dir, record)
    seal(folder / "record.json", edit)
    assert checks(verify(index.load(results_dir)), "fail") == {check}


def test_a_lost_curve_a_moved_folder_and_a_look_at_test_are_found(results_dir):
    folder = write(results_dir, make_record("erm"))
    (folder / "curve.csv").unlink()
    folder.rename(folder.with_name("elsewhere"))
    findings = verify(index.load(results_dir, ["elsewhere"]))
    assert checks(findings, "fail") == {"identity", "curve"}
    peeking = write(results_dir, make_record("sam"))
    lines = (peeking / "curve.csv").read_text().splitlines()
    (peeking / "curve.csv").write_text("\n".join([f"{lines[0]},test/roc_auc", *(f"{line},0.5" for line in lines[1:])]))
    assert any("test split" in finding.message for finding in verify(index.load(results_dir)))


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda r: reconfigured(r, "train", "epochs", 50), "budget"),
        (lambda r: reconfigured(r, "base", "lr", 0.1), "base"),
        (lambda r: reconfigured(r, "schedule", "warmup_epochs", 3), "schedule"),
        (lambda r: reconfigured(r, None, "split_seed", 0, samples=r["samples"] * 2), "budget"),
        (lambda r: r | {"data": r["data"] | {"split_sha256": "other"}}, "split"),
        (lambda r: r | {"data": r["data"] | {"sha256": "other"}}, "data"),
    ],
)
def test_an_unfair_comparison_is_found_and_marked(results_dir, change, check):
    records = grid(("erm",), seeds=range(8)) + [change(make_record("sam", seed)) for seed in range(8)]
    records = stored(results_dir, records)
    assert checks(verify(records), "fail") == {check}
    text = table(records, format="markdown")
    assert "§" in text
    assert "**" not in text
    assert "not a fair comparison" in text


def test_early_stopping_may_spend_less(results_dir):
    records = grid(("erm", "sam"), seeds=range(6))
    records = [reconfigured(record, "train", "patience", 3) for record in records]
    records[0]["samples"] = 5
    assert checks(verify(stored(results_dir, records)), "fail") == set()


def test_the_base_arm_may_have_an_arm_with_a_larger_budget(results_dir):
    records = grid(("erm", "sam"), seeds=range(6)) + grid(("erm",), seeds=range(6), epochs=10)
    assert verify(stored(results_dir, records)) == []


def test_more_variants_than_the_base_arm_are_a_warning(results_dir):
    records = grid(("erm", "sam"), seeds=range(6))
    records += [reconfigured(make_record("sam", seed), "optimizer", "rho", 0.2) for seed in range(6)]
    (finding,) = verify(stored(results_dir, records))
    assert (finding.check, finding.level, len(finding.runs)) == ("tuning", "warn", 12)
    assert "sam (rho=0.05; rho=0.2) x 2" in finding.message


def test_weak_evidence_is_a_warning(results_dir):
    records = grid(("erm", "sam"), seeds=range(2))
    records[0]["data"]["verified"] = False
    records[1]["short"] = True
    records[2]["provenance"] |= {"dirty": True, "commit": "f" * 40, "versions": {"torch": "2.0", "python": "3.12.0"}}
    records[3]["provenance"]["hardware"] = {"device": "cuda", "name": "a GPU", "threads": 1}
    records = stored(results_dir, records)
    findings = verify(records)
    assert checks(findings, "fail") == set()
    assert checks(findings, "warn") == {"data", "short", "seeds", "commit", "versions", "hardware", "timings"}
    text = describe(findings)
    assert "versions of torch" in text
    assert "a GPU (cuda, 1 threads) x 1" in text
    lines = {line.split()[0]: line for line in table(records).splitlines()}
    assert "¶" not in lines["erm"]
    assert "¶" in lines["sam"]
    assert "~" in lines["sam"]
    assert "¶ made from another commit" in table(records)


def test_failed_cells_come_first(results_dir):
    records = [make_record("erm", short=True), failed(make_record("sam"))]
    findings = verify(stored(results_dir, records))
    assert findings[0].check == "failed"
    assert "at step 12: the loss is not a number" in findings[0].message
    assert "second line" not in describe(findings)


def test_timings_that_cannot_be_are_found_and_marked(results_dir):
    records = grid(("erm", "sam", "vsam"), seeds=range(6))
    for record in records[6:12]:
        record["throughput"] *= 2  # two passes per step cannot be as fast as one
    for record in records[12:15]:
        record["throughput"] *= 0.4
    records = stored(results_dir, records)
    findings = verify(records)
    assert [finding.check for finding in findings] == ["timings", "timings"]
    assert "2.00 passes" in findings[0].message
    assert "differ in throughput" in findings[1].message
    lines = {line.split()[0]: line for line in table(records).splitlines()}
    assert "~" in lines["sam"]
    assert "~" not in lines["erm"]


def test_other_numbers_of_threads_are_found(results_dir):
    records = grid(("erm", "sam", "vsam"), seeds=range(6))
    records[6]["provenance"]["hardware"]["threads"] = 2  # one of sam's
    (finding,) = [f for f in verify(stored(results_dir, records)) if f.check == "threads"]
    assert (finding.level, len(finding.runs)) == ("warn", 6)
    assert "sam and its base arm" in finding.message
    assert "1 threads x 11, 2 threads x 1" in finding.message


def test_another_precision_chosen_by_the_device_is_found_and_marked(results_dir):
    """`precision: auto` is one configuration, and so one arm: what it came to stands in the record."""
    records = [
        reconfigured(record, None, "precision", "auto") for record in grid(("erm", "sam", "vsam"), seeds=range(6))
    ]
    for record in records:
        record["provenance"] |= {"precision": "fp32", "compiled": False}
    records[6]["provenance"] |= {"precision": "bf16", "compiled": True}  # one of sam's
    records = stored(results_dir, records)
    findings = verify(records)
    assert [(finding.check, finding.level) for finding in findings] == [("precision", "warn"), ("timings", "warn")]
    assert "sam and its base arm were computed in several ways: fp32 x 11, bf16, compiled x 1" in findings[0].message
    text = table(records)
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert [("≠" in lines[name], "~" in lines[name]) for name in ("erm", "sam", "vsam")] == [
        (False, False), (True, True), (False, False)]  # fmt: skip
    assert "≠ computed in another precision" in text
    assert r"$\neq$" in table(records, format="latex")


def test_a_compiled_method_is_not_compared_to_a_plain_base_arm(results_dir):
    records = grid(("erm", "sam"), seeds=range(6))
    records = [reconfigured(r, None, "compile", True) if r["labels"]["optimizer"] == "sam" else r for r in records]
    (line,) = [line for line in table(stored(results_dir, records)).splitlines() if line.startswith("sam")]
    assert line.partition("(6)")[2].split()[3:5] == ["-", "-"]  # difference and p, after valid ± std


def test_records_from_before_the_choice_stand_beside_new_ones(results_dir):
    records = grid(("erm", "sam"), seeds=range(6))
    for record in records[:6]:
        record["config"]["compile"] = False
        record["provenance"] |= {"precision": "fp32", "compiled": False}
    assert verify(stored(results_dir, records)) == []


def test_runs_that_skipped_many_steps_are_named(results_dir):
    records = [make_record("erm", seed=seed) for seed in range(3)]
    records[0]["skipped_steps"] = records[0]["steps"] // 100
    records[2]["skipped_steps"] = records[2]["steps"] // 2
    findings = [f for f in verify(stored(results_dir, records)) if f.check == "skipped"]
    assert [(f.level, f.runs) for f in findings] == [("warn", (records[2]["run_id"],))]
    assert "base.lr" in findings[0].message
