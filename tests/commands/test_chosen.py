"""The words that name runs mean the same in every command that reads records."""

import json
import re

import pytest
from support.fabricated import failed, of_cell, write

from sam_bench import cli
from sam_bench.cli import main
from sam_bench.config.compose import plan

SINGLE = ["dataset=digits", "model=fastnet_tiny", "optimizer=erm,sam", "seed=0,1"]  # what `run -m` made
READERS = ("table", "figures", "report", "verify", "status", "sharpness", "references")


@pytest.fixture
def records(results_dir, tmp_path, monkeypatch):
    """Records of the experiment digits (erm and sam, two seeds), of two epochs of it, and of a multirun."""
    monkeypatch.chdir(tmp_path)
    cells = plan("digits", ["optimizer=erm,sam", "seed=0,1"])
    cells += plan("digits", ["optimizer=erm,sam", "seed=0,1", "train.epochs=2"])
    cells += plan(None, SINGLE)
    for cell in cells:
        write(results_dir, of_cell(cell))
    return results_dir


def listed(capsys, *words):
    assert main(["status", *words, "--json"]) == 0
    return [row["run_id"] for row in json.loads(capsys.readouterr().out)]


def test_runs_without_an_experiment_are_named_by_the_words_that_made_them(records, capsys):
    assert listed(capsys, *SINGLE) == [cell.run_id for cell in plan(None, SINGLE)]
    assert main(["table", *SINGLE, "--format", "csv"]) == 0
    assert [line.split(",")[3] for line in capsys.readouterr().out.strip().splitlines()[1:]] == ["erm", "sam"]
    assert main(["verify", *SINGLE]) == 0
    assert main(["status", *SINGLE]) == 0
    assert f"see the result with: sam-bench table {' '.join(SINGLE)}" in capsys.readouterr().out


def test_runs_are_named_by_their_names(records, capsys):
    every = listed(capsys, "--runs", "*")
    assert len(every) == 12
    assert listed(capsys, "--runs", "*-sam-*", "--runs", "*-sam-*") == [name for name in every if "-sam-" in name]
    assert listed(capsys, "--runs", "*", "--filter", "train.epochs=2", "--filter", "seed=1") == [
        cell.run_id for cell in sorted(plan("digits", ["optimizer=erm,sam", "seed=1", "train.epochs=2"]),
                                       key=lambda cell: cell.run_id)
    ]  # fmt: skip
    assert main(["table", "--runs", "*-sgd-*", "--filter", "train.epochs=2"]) == 0
    assert "digits / fastnet_tiny / sgd" in capsys.readouterr().out


def test_an_experiment_with_overrides_and_a_filter(records, capsys):
    words = ["digits", "optimizer=erm,sam", "seed=0,1", "train.epochs=2"]
    assert listed(capsys, *words, "--filter", "optimizer=sam") == [
        cell.run_id for cell in plan("digits", words[1:]) if cell.labels["optimizer"] == "sam"
    ]
    assert listed(capsys, "digits", "--filter", "seed=0", "optimizer=sam") == [
        cell.run_id for cell in plan("digits", ["optimizer=sam", "seed=0"])
    ]  # an override may also stand after an option


def test_a_page_and_figures_of_what_run_made(records, capsys, tmp_path):
    assert main(["report", *SINGLE, "--out", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert f"sam-bench run -m {' '.join(SINGLE)} " in page
    assert f"sam-bench table {' '.join(SINGLE)} " in page
    assert main(["figures", "--runs", "*-adam-*", "--out", "drawn"]) == 0
    assert (tmp_path / "drawn" / "runs_learning_curves.pdf").is_file()


def test_several_experiments_are_one_table_and_chapters_of_one_page(records, capsys, tmp_path):
    for cell in plan("cifar100_cpu", ["optimizer=erm,sam", "seed=0,1"]):
        write(records, of_cell(cell))
    words = ["digits", "cifar100_cpu", "optimizer=erm,sam", "seed=0,1"]
    assert main(["table", *words]) == 0
    assert capsys.readouterr().out.startswith("overview")
    assert main(["report", *words, "--out", "page.html"]) == 0
    assert "sam-bench sweep cifar100_cpu optimizer=erm,sam seed=0,1 " in (tmp_path / "page.html").read_text()


def test_a_filter_is_for_all_experiments_together(records, capsys):
    together = ["digits", "graphsam_cpu_budget", "seed=0,1"]  # the second has erm alone
    both = listed(capsys, *together, "--filter", "optimizer=erm,sam")
    assert sorted({name.split("-")[3] for name in both}) == ["erm", "sam"]
    assert {name.split("-")[0] for name in both} > {"digits", "esol"}
    assert main(["status", *together, "--filter", "optimizer=sam", "--json"]) == 0
    told = capsys.readouterr()
    assert {cell["run_id"].split("-")[0] for cell in json.loads(told.out)} == {"digits"}
    assert "--filter leaves no run of graphsam_cpu_budget" in told.err
    assert main(["table", *together, "--filter", "optimizer=asam"]) == 2
    assert "no cell has optimizer=asam" in capsys.readouterr().err


def test_status_also_knows_failed_and_damaged_runs_by_name(records, capsys):
    (cell,) = plan(None, ["dataset=digits", "model=fastnet_tiny", "seed=7"])
    write(records, failed(of_cell(cell)))
    torn = records / "runs" / plan(None, SINGLE)[0].run_id / "record.json"
    torn.write_text(torn.read_text()[:100])
    assert main(["status", "--runs", "*"]) == 0
    output = capsys.readouterr().out
    assert "1 failed" in output
    assert "1 damaged" in output
    assert main(["verify", "--runs", "*-adam-*"]) == 1
    assert f"{torn}" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "wanted"), [
    ([], "say which runs: an experiment, as in `sam-bench table quickstart`"),
    (["--runs", "esol-*"], r"--runs esol-\*: no name of the 12 runs"),
    (["--runs", "results/runs/digits-*"], "write the name without its folder, as in --runs 'digits-"),
    (["--runs", "*", "seed=0"], "seed=0 cannot be combined with --runs, .* --filter seed=0"),
    (["--runs", "*", "--filter", "optimizer=asam"], "no cell has optimizer=asam"),
    (["dataset=digits", "model=fastnet_tiny", "optimizer=asam"],
     "Make them with: sam-bench run dataset=digits model=fastnet_tiny optimizer=asam. Or set SAM_BENCH_RESULTS"),
    (["digits", "seed=5"], "Make them with: sam-bench sweep digits seed=5. Or"),
])  # fmt: skip
def test_what_names_nothing_is_said(records, capsys, words, wanted):
    assert main(["table", *words]) == 2
    assert re.search(wanted, capsys.readouterr().err)


@pytest.mark.parametrize("command", [*READERS, "wandb sync"])
def test_every_command_takes_these_words(command):
    words = ["digits", "seed=0", "--filter", "optimizer=sam", "--runs", "*-sam-*"]
    arguments = cli._parse([*command.split(), *words, "train.epochs=2"])
    assert arguments.words == ["digits", "seed=0", "train.epochs=2"]
    assert (arguments.filter, arguments.runs) == (["optimizer=sam"], ["*-sam-*"])
    with pytest.raises(SystemExit):
        cli._parse([*command.split(), *words, "--no-such-option"])
