"""Tables: what they say, what they mark, and that the same records give the same bytes."""

import csv
import io
import random
import statistics
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest
from support.fabricated import SETTINGS, failed, grid, make_added, make_record, write, write_added

from sam_bench.errors import UsageError
from sam_bench.results.arms import blocks
from sam_bench.results.published import published
from sam_bench.results.tables import table as tables
from sam_bench.results.tables.table import FORMATS, table
from sam_bench.store import index


def raw(records):
    return {
        (row["dataset"], row["optimizer"], row["variant"]): row
        for row in csv.DictReader(io.StringIO(table(records, format="csv")))
    }


def cifar(optimizer="sam", seed=0, model="wrn_16_4"):
    record = make_record(optimizer, seed, "cifar100", model, "sgd")
    record["metric"] = {"name": "accuracy", "higher_is_better": True}
    record["metrics"] = {"test/accuracy": 0.78 + seed / 100, "valid/accuracy": 0.78}
    return record


def test_mean_spread_n_difference_and_cost():
    records = grid(("erm", "sam"), seeds=range(8))
    row = raw(records)["bbbp", "sam", ""]
    values = [r["metrics"]["test/roc_auc"] for r in records]
    erm, sam = values[:8], values[8:]
    assert float(row["mean"]) == pytest.approx(sum(sam) / 8)
    assert float(row["difference_mean"]) == pytest.approx(sum(sam) / 8 - sum(erm) / 8)
    assert float(row["difference_p"]) == pytest.approx(2 / 2**8)
    assert (row["n"], row["difference_n"], row["seeds"]) == ("8", "8", "0 1 2 3 4 5 6 7")
    assert float(row["relative_throughput"]) == pytest.approx(0.5, abs=0.02)
    assert float(row["grad_evals_per_step"]) == 2.0
    assert raw(records)["bbbp", "erm", ""]["difference_mean"] == ""


def test_bold_is_only_what_is_better_and_passes():
    text = table(grid(("erm", "sam", "vsam"), seeds=range(8)), format="markdown")
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "**" in lines["sam"]
    assert "**" not in lines["erm"]
    assert "**" not in lines["vsam"]
    assert "\\*" in lines["vsam"]


def test_too_few_seeds_is_said_and_never_marked():
    text = table(grid(("erm", "sam"), seeds=range(5)))
    assert "too few seeds (5)" in text
    assert "below 6 pairs" in text
    assert ")*" not in text


def test_marks_of_short_unverified_and_failed_runs():
    unverified = make_record("sam", 0)
    unverified["data"]["verified"] = False
    records = [make_record("erm"), unverified, failed(make_record("sam", 1)), make_record("looksam", short=True)]
    text = table([*records, failed(make_record("vsam"))])
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "(1)‡ ✗1" in lines["sam"]
    assert "(1)†" in lines["looksam"]
    assert "n/a (0) ✗1" in lines["vsam"]
    assert "short run" in text
    assert "could not be verified" in text
    assert "†" not in table([make_record("erm")])


def test_a_run_whose_metric_is_undefined_is_not_counted():
    records = grid(("erm",), seeds=range(3))
    records[0]["metrics"]["test/roc_auc"] = None
    assert raw(records)["bbbp", "erm", ""]["n"] == "2"


def test_rows_stand_in_the_order_of_the_records():
    text = table(grid(("vsam", "erm", "sam"), seeds=[0]))
    rows = [line.split()[0] for line in text.splitlines()[3:6]]
    assert rows == ["vsam", "erm", "sam"]


def test_swept_options_become_rows_of_their_own_compared_to_the_base_arm_trained_alike():
    records = []
    for epochs in (4, 8):
        for seed in range(6):
            records.append(make_record("erm", seed, epochs=epochs))
            wide = make_record("sam", seed, epochs=epochs)
            wide["config"]["optimizer"]["rho"] = 0.1
            records += [make_record("sam", seed, epochs=epochs), wide]
    rows = raw(records)
    assert {key[1:] for key in rows} == {
        ("erm", "epochs=4"),
        ("erm", "epochs=8"),
        *(("sam", f"rho={rho}, epochs={epochs}") for rho in (0.05, 0.1) for epochs in (4, 8)),
    }
    assert rows["bbbp", "sam", "rho=0.1, epochs=8"]["compared_to"] == "erm (epochs=8)"
    assert rows["bbbp", "erm", "epochs=8"]["compared_to"] == "erm (epochs=4)"


def test_names_of_arms_spell_values_as_they_are_typed():
    records = []
    for init, descriptors in ((None, False), ("library", False), ("published", None)):
        for seed in range(2):
            record = make_record("erm", seed)
            record["config"]["dataset"]["descriptors"] = descriptors
            if init is not None:  # a record from before the key existed has none, and is the same arm as "library"
                record["config"]["model"]["init"] = init
            records.append(record | {"run_id": f"{record['run_id']}-{init}"})
    assert {key[2] for key in raw(records)} == {
        "descriptors=false, init=library", "descriptors=null, init=published"
    }  # fmt: skip


def test_holm_counts_all_comparisons_of_the_table():
    alone = raw(grid(("erm", "sam"), seeds=range(8)))["bbbp", "sam", ""]
    among = raw(grid(("erm", "sam", "looksam"), seeds=range(8), datasets=("bbbp", "bace")))["bbbp", "sam", ""]
    assert float(among["difference_p_holm"]) == pytest.approx(4 * float(alone["difference_p_holm"]))


def test_several_data_sets_get_an_overview_with_ranks():
    text = table(grid(("erm", "sam", "vsam"), seeds=range(6), datasets=("bbbp", "bace", "esol")))
    overview = text.split("\n\n")[0].splitlines()
    assert overview[0] == "overview"
    assert [line.split()[-1] for line in overview[3:6]] == ["2.00", "1.00", "3.00"]
    assert "Friedman p = 0.050" in text


def test_the_overview_shows_the_interquartile_mean_of_relative_gains():
    records = grid(("erm", "sam"), seeds=range(4), datasets=("bbbp", "esol"))
    gains = []
    for erm, sam in zip(records[0:4] + records[8:12], records[4:8] + records[12:16], strict=True):
        name, sign = f"test/{erm['metric']['name']}", 1 if erm["metric"]["higher_is_better"] else -1
        gains.append(100 * sign * (sam["metrics"][name] / erm["metrics"][name] - 1))
    expected = sum(sorted(gains)[2:6]) / 4
    (row,) = [line for line in table(records).split("\n\n")[0].splitlines() if line.startswith("sam")]
    assert row.split()[-2] == f"{expected:.2f}"


def test_published_values_stand_beside_ours_with_their_source():
    text = table([cifar("erm"), cifar("sam"), cifar("sam", 1), cifar("graphsam")])
    assert "79.25 ± 0.10" in text
    assert "2401.12033, Table 1: WRN-16-4, SAM" in text
    assert "76.90 ± 0.15" in text
    assert "78.50 ± 0.71 (2)" in text
    (line,) = [line for line in text.splitlines() if line.startswith("graphsam")]
    assert line.endswith("not available")
    assert "not available" in table([make_record()])


def test_published_values_match_names_and_units():
    labels = {"dataset": "cifar100", "model": "wrn_28_10", "base": "sgd", "optimizer": "sam"}
    found = published(labels, "accuracy")
    assert {round(value.value, 4) for value in found} >= {0.8416, 0.835}
    labels |= {"model": "wrn_16_4", "optimizer": "looksam"}
    assert [value.value for value in published(labels, "accuracy")] == [0.79]
    assert published({**labels, "base": "adam", "optimizer": "erm"}, "accuracy") == []
    assert published({**labels, "dataset": "bbbp", "model": "grover"}, "roc_auc") == []


def test_sharpness_has_a_table_of_its_own_where_it_was_measured(results_dir):
    records = grid(("erm", "sam"), seeds=range(3))
    for record in records:
        write(results_dir, record)
    loaded = index.load(results_dir, [record["run_id"] for record in records])
    assert "sharpness of" not in table(loaded)
    for record in records[:5]:
        write_added(results_dir, record, "sharpness")
    text = table(loaded)
    section = text[text.index("sharpness of bbbp") :]
    assert "(3)" in next(line for line in section.splitlines() if line.startswith("erm"))
    sam = next(line for line in section.splitlines() if line.startswith("sam"))
    assert "(2)" in sam
    assert "?" not in section
    assert "512 of 800 train samples" in section
    row = raw(loaded)["bbbp", "sam", ""]
    values = [make_added(record, "sharpness")["largest_eigenvalue"]["value"] for record in records[3:5]]
    assert float(row["largest_eigenvalue"]) == pytest.approx(sum(values) / 2)
    assert row["sharpness_n"] == "2"
    doubt = make_added(records[5], "sharpness")["largest_eigenvalue"] | {"converged": False}
    write_added(results_dir, records[5], "sharpness", largest_eigenvalue=doubt)
    assert "did not converge" in table(loaded)


def test_each_block_takes_the_settings_that_most_of_its_own_runs_share(results_dir):
    records = grid(("erm", "sam"), seeds=range(2), datasets=("bbbp", "esol"))
    for record in records:
        write(results_dir, record)
        settings = SETTINGS["sharpness"] | {"m": 32 if record["labels"]["dataset"] == "bbbp" else 64}
        write_added(results_dir, record, "sharpness", settings=settings)
    text = table(index.load(results_dir, [record["run_id"] for record in records]))
    assert "m = 32" in text
    assert "m = 64" in text


def test_same_records_same_bytes(results_dir):
    records = grid(("erm", "sam"), seeds=range(6), datasets=("bbbp", "esol"))
    shuffled = records[:]
    random.Random(0).shuffle(shuffled)
    for record in shuffled:
        write(results_dir, record)
        write_added(results_dir, record, "sharpness")
    names = [record["run_id"] for record in records]
    code = (
        "import sys; from sam_bench.results.tables import table; from sam_bench.store import index\n"
        "for form in table.FORMATS: print(table.table(index.load(sys.argv[1], sys.argv[2:]), format=form))"
    )
    again = subprocess.run([sys.executable, "-c", code, results_dir, *names], capture_output=True, check=True)
    here = "".join(table(index.load(results_dir, names), format=form) + "\n" for form in FORMATS)
    assert again.stdout.decode() == here


def test_html_is_well_formed_and_escaped():
    class Balance(HTMLParser):
        stack = ()

        def handle_starttag(self, tag, attrs):
            self.stack = (*self.stack, tag)

        def handle_endtag(self, tag):
            assert self.stack[-1] == tag
            self.stack = self.stack[:-1]

    record = make_record(dataset="<b>&")
    text = table([record], format="html")
    parser = Balance()
    parser.feed(text)
    assert parser.stack == ()
    assert "&lt;b&gt;&amp;" in text


def test_latex_escapes_what_latex_reads():
    text = table(grid(("erm", "ae_sam"), seeds=range(6)), format="latex")
    assert "ae\\_sam" in text
    assert "$\\pm$" in text
    assert "\\toprule" in text
    assert not any(line.count("%") != line.count("\\%") for line in text.splitlines() if not line.startswith("% "))


def test_an_unknown_format_is_refused_with_advice():
    with pytest.raises(UsageError, match="markdown"):
        table([make_record()], format="markdwon")


def test_no_records_is_an_empty_table():
    assert table([], format="csv") == "optimizer\n"
    assert tables.average_ranks([]) is None
    assert blocks([]) == []


@pytest.mark.slow
def test_a_table_of_thousands_of_records_takes_seconds():
    datasets = [f"set{i}" for i in range(30)]
    optimizers = ("erm", "sam", "looksam", "ae_sam", "graphsam", "vsam", "fsam", "gsam", "esam", "asam")
    records = grid(optimizers, seeds=range(10), datasets=datasets)
    begin = time.process_time()
    table(records)
    assert time.process_time() - begin < 10


def test_a_spread_printed_as_less_than_something():
    labels = {"dataset": "cifar10", "model": "wrn28_10", "base": "sgd", "optimizer": "sam"}
    values = {value.kind for value in published(labels, "accuracy")}
    assert values == {"95% CI over 5 runs", "less than this, 95% CI over 5 runs"}


def test_looksam_with_the_options_of_the_rerun_stands_beside_it():
    labels = {"dataset": "cifar100", "model": "wrn16_4", "base": "sgd", "optimizer": "looksam_cifar"}
    (value,) = published(labels, "accuracy")
    assert (value.value, value.spread) == pytest.approx((0.79, 0.0008))


NASTY = "=1+1\x1b[31m [a](https://b.example) www.c.example\n|<script>\u202e"


def test_what_a_file_of_the_user_names_cannot_act_in_any_output():
    """No formula, link, tag, new line, or sequence that a terminal obeys, wherever a name stands."""
    records = grid(("erm", "sam"), seeds=range(2))
    for record in records:
        record["labels"] = {**record["labels"], "dataset": NASTY, "model": NASTY}
        record["metric"] = {**record["metric"]}
    for format in FORMATS:
        text = table(records, format=format)
        assert "1+1" in text, format
        assert not {"\x1b", "\u202e"} & set(text), format
        assert not any(line.startswith("|<") or line.strip() == "|<script>" for line in text.splitlines()), format
    assert "](" not in table(records, format="markdown")
    assert "://" not in table(records, format="markdown")
    assert "<script" not in table(records, format="html") + table(records, format="markdown").replace("\\<", "")
    for row in csv.reader(io.StringIO(table(records, format="csv"))):
        for cell in row:
            assert not cell.startswith(("=", "@"))
            assert not cell.startswith(("+", "-")) or float(cell) < 0


def test_power_is_stated_only_where_the_corrected_test_can_reject():
    """One comparison needs six pairs; four comparisons need eight."""
    said = "would find a true difference of"
    assert said not in table(grid(("erm", "sam"), seeds=range(5)))
    assert said in table(grid(("erm", "sam"), seeds=range(6)))
    four = ("erm", "sam", "looksam", "graphsam", "vsam")
    assert said not in table(grid(four, seeds=range(7)))
    assert said in table(grid(four, seeds=range(8)))


def test_no_interval_from_fewer_than_six_pairs():
    few, enough = (table(grid(("erm", "sam"), seeds=range(n)), format="markdown") for n in (5, 6))
    rows = [next(line for line in text.splitlines() if line.startswith("| sam")) for text in (few, enough)]
    assert "[" not in rows[0]
    assert "[" in rows[1]
    assert "and no interval is given" in few
    assert "no interval" not in enough


def test_the_valid_metric_stands_beside_the_test_metric():
    records = grid(("erm", "sam"), seeds=range(3))
    values = [r["metrics"]["valid/roc_auc"] for r in records if r["labels"]["optimizer"] == "sam"]
    row = raw(records)["bbbp", "sam", ""]
    assert float(row["valid_mean"]) == pytest.approx(statistics.mean(values))
    assert float(row["valid_std"]) == pytest.approx(statistics.stdev(values))
    text = table(records, format="markdown")
    assert "| valid/roc\\_auc |" in text
    assert f"| {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} |" in text
