"""Figures: drawn from records alone, readable for all, and the same bytes from the same records."""

import copy
import itertools
import statistics

import pytest
from support.fabricated import failed, grid, make_record, tune, write, write_added

from sam_bench.errors import UsageError
from sam_bench.results.arms import blocks
from sam_bench.results.figures import across, measured, plots, rows, tuning
from sam_bench.results.figures import draw as drawing
from sam_bench.results.figures.draw import FIGURES, draw
from sam_bench.results.looks import looks, looks_of
from sam_bench.results.report import data
from sam_bench.results.target import costs_to_target
from sam_bench.store import added, index
from sam_bench.store.identity import run_id


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
    drawn = set(FIGURES) - {"three_budgets", "sensitivity"}  # these records have one budget
    drawn |= {"sensitivity_bbbp", "sensitivity_esol"}  # one for each data set
    assert {path.name for path in first} == {f"all_{name}{end}" for name in drawn for end in (".pdf", ".png")}
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


def test_a_long_legend_takes_nothing_from_the_panels():
    import matplotlib.pyplot as plt

    heights = {}
    for count in (2, 12):
        figure, _ = plots.grid(1, 2, height=2.2)
        names = [f"erm (descriptors=true, init=library, hidden={i})" for i in range(count)]
        plots.legend(figure, names, looks_of(names))
        figure.draw_without_rendering()
        heights[count] = figure.axes[0].get_position().height * figure.get_figheight()
        plt.close(figure)
    assert heights[12] > 0.95 * heights[2]


def test_sensitivity_names_the_table_and_what_its_marks_are(results_dir):
    records = stored(results_dir, tune(results_dir, grid(("erm", "sam"), seeds=range(2))))
    found = blocks(records)
    figure = tuning.sensitivity(found)
    drawing._mark(figure, found)
    assert figure.get_suptitle().startswith(f"{found[0].title}; options: tuned")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one trial", "best trial of the base optimizer alone"]


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
    alone = draw(records, tmp_path / "png", name="x", formats=["png"])
    assert {path.name for path in alone} == {name for name in names if name.endswith(".png")}
    assert all(path.read_bytes() == (tmp_path / path.name).read_bytes() for path in alone)


def test_nothing_finished_draws_nothing(tmp_path):
    assert draw([failed(make_record("erm"))], tmp_path, name="none") == []


def test_a_folder_that_cannot_be_written_gives_advice(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Cannot write"):
        draw([make_record()], tmp_path / "file" / "figures", name="x")


def test_what_tells_the_files_of_several_tables_apart():
    def of(*datasets):
        found = blocks([make_record("erm", dataset=dataset, base=base) for dataset, base in datasets])
        return [suffix for suffix, _ in drawing._parts(found)]

    assert of(("bbbp", "adam")) == [""]
    assert of(("bbbp", "adam"), ("esol", "sgd")) == ["_bbbp", "_esol"]
    assert of(("bbbp", "adam"), ("bbbp", "sgd")) == ["_bbbp-grover-adam", "_bbbp-grover-sgd"]


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


def colours(figure):
    """{name: (colour, marker, fill)} of a figure's legend."""
    handles = figure.legends[0].legend_handles
    return {h.get_label(): (h.get_color(), h.get_marker(), h.get_markerfacecolor()) for h in handles}


def test_a_method_looks_the_same_in_every_figure_and_in_the_page(results_dir):
    some = stored(results_dir, tune(results_dir, grid(("sam", "vsam", "erm"), seeds=range(2))))
    others = stored(results_dir, grid(("erm", "vsam", "gsam", "sam"), seeds=range(2), datasets=("esol",)))
    every = []
    for records in (some, others):
        found = blocks(records)
        drawn = (plot(found) for name, plot in FIGURES.items() if name not in ("metric_by_dataset", "loss_landscape"))
        every += [colours(figure) for figure in drawn if figure is not None and figure.legends]
        page = data.data({"x": records}, {"x": found})["blocks"][0]
        assert {arm["name"]: arm["look"] for arm in page["arms"]} == {
            n: look.packed for n, look in looks(found).items()
        }
    assert len(every) >= 7
    for name in ("erm", "sam", "vsam"):
        assert len({figure[name] for figure in every if name in figure}) == 1


def published_records(seeds=range(3)):
    """Runs of a network and a data set for which papers print values."""
    records = grid(("erm", "sam"), seeds=seeds, datasets=("cifar10",), model="wrn28_10", base="sgd")
    for record in records:
        value = 0.95 + record["labels"]["seed"] / 100
        record |= {"metric": {"name": "accuracy", "higher_is_better": True}}
        record["metrics"] = {"test/accuracy": value, "valid/accuracy": value - 0.005}
    return records


def test_rows_keep_off_the_frame_and_show_test_valid_and_published_values():
    found = blocks(published_records())
    figure = rows.metric_by_dataset(found)
    axis = figure.axes[0]
    low, high = axis.get_ylim()[::-1]
    heights = [y for line in axis.lines for y in line.get_ydata()]
    assert min(heights) - low > 0.3
    assert high - max(heights) > 0.3
    marks = {(line.get_marker(), round(float(x), 6)) for line in axis.lines for x in line.get_xdata()}
    assert ("s", 96.0) in marks  # sam, test
    assert ("|", 95.5) in marks  # valid
    values = [published.value for arm in found[0].arms for published in arm.published]
    assert len(values) > 2
    assert {("x", round(100 * value, 6)) for value in values} <= marks
    assert any("published" in text.get_text() for text in figure.legends[0].get_texts())
    page = data.data({"x": []}, {"x": found})["blocks"][0]
    shown = [published["value"] for arm in page["arms"] for published in arm["published"]]
    assert shown == pytest.approx([100 * value for value in values])
    assert page["arms"][1]["valid"]["mean"] == pytest.approx(95.5)


def test_the_time_to_target_says_how_many_runs_reach_it(results_dir):
    records = stored(results_dir, grid(("erm", "sam"), seeds=range(5), epochs=10))
    figure = rows.time_to_target(blocks(records))
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said[0] == "3 of 5"  # the median of erm's bests, and what lies above
    assert rows.time_to_target(blocks(records[5:])) is None


def test_three_budgets_stand_side_by_side(results_dir):
    plain = grid(("erm", "sam"), seeds=range(2))
    assert rows.three_budgets(blocks(plain)) is None
    records = copy.deepcopy(plain) + copy.deepcopy(plain)
    for record in records[: len(plain)]:
        record["config"]["train"]["budget"] = "grad_evals"
        record["run_id"] = run_id(record["labels"], record["config"])
        record["metrics"]["test/roc_auc"] = 0.5
    figure = rows.three_budgets(blocks(records))
    titles = [axis.get_title(loc="left").splitlines()[-1] for axis in figure.axes]
    assert titles == ["equal epochs", "equal gradient evaluations", "equal seconds"]
    means = [{float(x) for line in axis.lines if line.get_marker() == "s" for x in line.get_xdata()}
             for axis in figure.axes]  # fmt: skip
    assert means[1] == {0.5}
    assert means[0].pop() == pytest.approx(sum(r["metrics"]["test/roc_auc"] for r in plain[2:]) / 2)
    assert "no records" in [text.get_text() for text in figure.axes[2].texts]
