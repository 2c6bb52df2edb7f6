"""Three budgets beside each other, and the cost of a target."""

import copy
import math
import statistics

import pytest
from support.fabricated import grid, write

from sam_bench.cli import main
from sam_bench.config import compose
from sam_bench.results import budgets, target
from sam_bench.results.arms import blocks
from sam_bench.results.tables.render import terminal
from sam_bench.store import index
from sam_bench.store.identity import run_id


def under(record, budget, seconds=None):
    record = copy.deepcopy(record)
    record["config"]["train"] |= {"budget": budget, "seconds": seconds}
    record["run_id"] = run_id(record["labels"], record["config"])
    return record


def stored(results_dir, records):
    for record in records:
        write(results_dir, record)
    return index.load(results_dir, [record["run_id"] for record in records])


def test_the_budgets_stand_beside_each_other():
    plain = grid(("erm", "sam", "vsam"), seeds=range(6), datasets=("bbbp", "esol"))
    records = [under(r, "epochs") for r in plain] + [under(r, "grad_evals") for r in plain]
    records += [under(r, "seconds", 8.0) for r in plain]
    sections = budgets.sections(records)
    assert [section.title for section in sections] == [
        "three budgets: bbbp / grover / adam",
        "three budgets: esol / grover / adam",
    ]
    header = sections[0].header
    assert len(header) == 1 + 3 * 4
    assert [text.partition(":")[0] for text in header[1::4]] == list(budgets.BUDGETS.values())
    assert all(len(row) == len(header) for row in sections[0].rows)
    assert [row[0].text for row in sections[0].rows] == ["erm", "sam", "vsam"]
    spent = {row[0].text: row[8].value for row in sections[0].rows}
    assert spent["sam"] == 2 * spent["erm"]
    assert "equal seconds: 8 of training" in terminal(sections)
    assert len(budgets.sections(records[: len(plain)])[0].header) == 5  # what has no records has no column


def test_runs_of_two_evaluations_a_step_count_under_gradient_evaluations_too():
    """Only erm has to train again for the budget that SAM spends; methods of other costs are not in its column."""
    plain = [under(record, "epochs") for record in grid(("erm", "sam", "vsam"), seeds=range(6))]
    longer = [under(record, "grad_evals") for record in plain[:6]]
    for record in longer:
        record["metrics"]["test/roc_auc"] += 0.01
        record |= {"steps": 2 * record["steps"], "grad_evals": 2 * record["grad_evals"]}
    (section,) = budgets.sections([*plain, *longer])
    assert section.title == "budgets: bbbp / grover / adam"
    rows = {row[0].text: row for row in section.rows}
    assert rows["sam"][5].text.rstrip("*") == rows["sam"][1].text
    assert rows["vsam"][5].text == "-"
    gain = rows["sam"][2].value  # against erm with as many epochs
    assert rows["sam"][6].value == pytest.approx(gain - 0.01)
    assert "§" not in rows["sam"][5].text
    assert rows["sam"][7].value == pytest.approx(2 / 2**6)  # the only comparison under this budget, six pairs of a sign
    assert rows["sam"][5].text.endswith("*")
    assert "count here" in terminal([section])
    own = [under(record, "grad_evals") for record in plain[6:12]]  # sam's, made after all
    for record in own:
        record["metrics"]["test/roc_auc"] = 0.5
    (section,) = budgets.sections([*plain, *longer, *own])
    assert {row[0].text: row for row in section.rows}["sam"][5].text.startswith("0.5000")


def test_such_a_run_is_the_same_run(results_dir, monkeypatch):
    """What the test above takes for granted: SAM's steps and learning rates are the same under both budgets."""
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(results_dir))
    words = ["optimizer=sam", "seed=0", "train.epochs=2", "schedule=cosine", "device=cpu"]
    found = []
    for budget in ("epochs", "grad_evals"):
        (cell,) = compose.plan("digits", [*words, f"train.budget={budget}"])
        assert main(["run", *cell.overrides]) == 0
        found += index.load(results_dir, [cell.run_id])
    one, other = found
    assert one["run_id"] != other["run_id"]
    assert one["metrics"] == other["metrics"]
    assert one["grad_evals"] == budgets.SAM_PASSES * one["steps"] == other["grad_evals"]


def test_the_table_shows_the_budgets(results_dir, monkeypatch, capsys):
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(results_dir))
    stored(results_dir, [under(r, b) for b in ("epochs", "grad_evals") for r in grid(("erm", "sam"), seeds=[0])])
    assert main(["table", "--budgets", "--runs", "bbbp-*"]) == 0
    assert "equal gradient evaluations" in capsys.readouterr().out
    assert main(["table", "--budgets", "--runs", "bbbp-*", "--format", "csv"]) == 2
    assert "--budgets has no --format csv" in capsys.readouterr().err


def test_the_seconds_are_those_of_sam_else_of_the_slowest_and_never_change():
    records = [under(record, "epochs") for record in grid(("erm", "sam", "vsam"), seeds=range(3))]
    sam = statistics.median(r["train_seconds"] for r in records if r["labels"]["optimizer"] == "sam")
    vsam = statistics.median(r["train_seconds"] for r in records if r["labels"]["optimizer"] == "vsam")
    place = ("bbbp", "grover", "adam")
    assert budgets.calibrated(records) == {place: pytest.approx(sam, rel=0.01)}
    assert budgets.calibrated(records[:3] + records[6:]) == {place: pytest.approx(vsam, rel=0.01)}
    timed = [under(record, "seconds", 1.0) for record in records]
    assert budgets.calibrated(records + timed) == budgets.calibrated(records)
    assert budgets.calibrated(timed) == {}


def test_the_target_is_the_median_of_the_base(results_dir):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(5), epochs=10))
    (block,) = blocks(records)
    bests = [record["metrics"]["valid/roc_auc"] for record in records[:5]]
    assert target.target_of(block) == statistics.median(bests)
    (section,) = target.sections([block])
    assert section.rows[0][1].text == "3 of 5"  # the median itself and what lies above
    reached = [r for r in records[:5] if r["metrics"]["valid/roc_auc"] >= statistics.median(bests)]
    costs = [target.spent(record, statistics.median(bests))["grad_evals"] for record in reached]
    assert section.rows[0][2].value == statistics.median(costs)
    assert all(
        math.isfinite(cost) and cost <= record["grad_evals"] for cost, record in zip(costs, reached, strict=True)
    )


def test_a_target_that_nobody_reaches_and_one_without_a_base(results_dir):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(2)))
    (section,) = target.sections(blocks(records), 2.0)
    assert [row[1].text for row in section.rows] == ["0 of 2", "0 of 2"]
    assert {row[2].text for row in section.rows} == {"never"}
    assert "given" in section.notes[0]
    assert target.sections(blocks(records[2:])) == []
    assert target.sections(blocks(grid(("erm", "sam"), seeds=range(2)))) == []  # no folder, no curves
