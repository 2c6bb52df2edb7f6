"""Figures: drawn from records alone, readable for all, and the same bytes from the same records."""

import itertools
import statistics

import pytest
from support.fabricated import failed, grid, make_record, tune, write, write_added

from sam_bench.errors import UsageError
from sam_bench.results.arms import blocks
from sam_bench.results.figures import across, measured, plots
from sam_bench.results.figures import draw as drawing
from sam_bench.results.figures.draw import FIGURES, draw
from sam_bench.results.report import data
from sam_bench.results.target import costs_to_target
from sam_bench.store import added, index


def stored(results_dir, records):
    for record in records:
        write(results_dir, record)
    return index.load(results_dir, [record["run_id"] for record in records])


@pytest.mark.slow
def test_every_figure_is_drawn_twice_and_again_with_the_same_bytes(results_dir, tmp_path):
    records = grid(("erm", "sam", "vsam"), seeds=range(2), datasets=("bbbp", "esol"))
    records = stored(results_dir, tune(results_dir, records))
    for record, kind in itertools.product(records, added.KINDS):
        write_added(results_dir, record, kind)
    first = draw(records, tmp_path / "a", name="all")
    assert {path.name for path in first} == {f"all_{name}{end}" for name in FIGURES for end in (".pdf", ".png")}
    again = draw(records, tmp_path / "b", name="all")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert all(path.read_bytes()[:4] in (b"%PDF", b"\x89PNG") for path in first)


def test_unverified_data_are_named_on_every_figure_and_in_the_report(results_dir, tmp_path):
    sound = stored(results_dir, grid(("erm", "sam"), seeds=range(2)))
    damaged = [{**record, "data": {**record["data"], "verified": record["labels"]["seed"] > 0}} for record in sound]
    for records, mark in ((sound, ""), (damaged, "unverified data: bbbp")):
        found = blocks(records)
        figure = plots.metric_against_cost(found)
        drawing._mark(figure, found)
        assert figure.get_suptitle() == mark
        titles = [block["title"] for block in data.data({"x": records}, {"x": found})["blocks"]]
        assert [title.endswith("(unverified data)") for title in titles] == [bool(mark)]
    one, other = (draw(records, tmp_path / str(i), name="x") for i, records in enumerate((sound, damaged)))
    assert len(one) >= 4
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(one, other, strict=True))


def test_one_seed_one_epoch_and_failures_are_enough(results_dir, tmp_path):
    records = stored(
        results_dir, [make_record("erm", epochs=1), failed(make_record("sam")), failed(make_record("vsam"))]
    )
    assert draw(records, tmp_path, name="few")


def test_records_without_curves_still_show_what_they_cost(results_dir, tmp_path):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(2)))
    for record in records:
        (results_dir / "runs" / record["run_id"] / "curve.csv").unlink()
    names = {path.name for path in draw(records, tmp_path, name="x")}
    assert "x_metric_against_cost.png" in names
    assert "x_learning_curves.png" not in names


def test_nothing_finished_draws_nothing(tmp_path):
    assert draw([failed(make_record("erm"))], tmp_path, name="none") == []


def test_a_folder_that_cannot_be_written_gives_advice(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Cannot write"):
        draw([make_record()], tmp_path / "file" / "figures", name="x")


def test_arms_differ_by_more_than_colour():
    found = blocks(
        grid(("erm", "sam", "looksam", "ae_sam", "graphsam", "vsam", "fsam", "gsam", "esam", "asam"), seeds=[0])
    )
    looks = plots.looks(found)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(looks)
    for one, other in itertools.combinations(looks.values(), 2):
        assert one["marker"] != other["marker"]
        assert (one["color"], one["dashes"]) != (other["color"], other["dashes"])


def test_pareto_front_by_hand():
    points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.0, 0.8), (4.0, 0.85)]
    assert plots.pareto(points, True) == [(1.0, 0.5), (2.0, 0.8), (3.0, 0.9)]
    assert plots.pareto(points, False) == [(1.0, 0.5), (2.0, 0.4)]


def test_curves_of_an_arm_share_their_places_on_the_axes(results_dir):
    records = stored(results_dir, grid(("sam",), seeds=range(3), epochs=4))
    table = plots.curve_table(blocks(records)[0])
    assert len(table) == 12
    assert table["train_seconds"].nunique() == 4
    expected = sum(record["train_seconds"] for record in records) / 3
    assert table["train_seconds"].max() == pytest.approx(expected)


def test_costs_of_a_target_by_hand(results_dir):
    """The base arm reaches the median of its own bests at its last epoch or never; the better method does so sooner."""
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(4), epochs=10))
    costs = costs_to_target(blocks(records), "grad_evals")
    target = statistics.median(record["metrics"]["valid/roc_auc"] for record in records[:4])
    for seed, record in enumerate(records[:4]):
        reached = record["metrics"]["valid/roc_auc"] >= target
        assert (costs["erm"][seed] < float("inf")) is reached
    assert len(costs["sam"]) == 4
    assert costs_to_target(blocks(records[4:]), "grad_evals") == {}


def test_ranks_need_three_methods_and_two_data_sets():
    assert across.rank_diagram(blocks(grid(("erm", "sam"), seeds=[0], datasets=("bbbp", "esol")))) is None
    assert across.rank_diagram(blocks(grid(("erm", "sam", "vsam"), seeds=[0]))) is None


def test_methods_that_always_or_never_sample_have_no_share_to_draw(results_dir):
    assert plots.sampled_share(blocks(stored(results_dir, grid(("erm", "sam"), seeds=[0])))) is None


@pytest.mark.slow
def test_what_was_not_measured_is_not_drawn_and_some_runs_are_enough(results_dir, tmp_path):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(2)))
    assert not any("sharpness" in path.name for path in draw(records, tmp_path / "none", name="x"))
    for kind in added.KINDS:
        write_added(results_dir, records[0], kind)
    names = {path.name for path in draw(records, tmp_path / "some", name="x")}
    assert {"x_sharpness_against_gap.png", "x_loss_landscape.png", "x_successive_gradients.png"} <= names


def test_a_landscape_that_is_flat_or_not_finite_is_drawn(results_dir, tmp_path):
    records = stored(results_dir, grid(("erm", "sam"), seeds=[0]))
    axis = [-1.0, 0.0, 1.0]
    write_added(results_dir, records[0], "landscape", axis=axis, losses=[[1.0] * 3] * 3)
    write_added(results_dir, records[1], "landscape", axis=axis, losses=[[1.0, None, 1.0]] * 3)
    assert measured.loss_landscape(blocks(records)) is not None


def test_gradients_are_averaged_over_the_watched_steps_of_an_epoch(results_dir):
    records = stored(results_dir, grid(("sam",), seeds=[0], epochs=2))
    rows = {"step": [0, 1, 30], "epoch": [0.0, 0.04, 1.2], "norm_g": [1.0, 3.0, 5.0], "cos_g": [None, 0.5, 0.1]}
    write_added(results_dir, records[0], "gradients", rows=rows)
    table = measured.gradient_table(blocks(records)[0])
    assert table["epoch"].tolist() == [1.0, 2.0]
    assert table["norm_g"].tolist() == [2.0, 5.0]
    assert table["cos_g"].tolist() == [0.5, 0.1]
