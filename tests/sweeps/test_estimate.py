"""How long a run will take: its start-up counts, and without a finished run there is no estimate."""

import pytest
from support.fabricated import make_record, of_cell, write

from sam_bench.cli import main
from sam_bench.config.compose import plan
from sam_bench.sweeps.estimate import Durations

WORK = {"train_seconds": 40.0, "eval_seconds": 10.0, "setup_seconds": 5.0}


def estimated(results, **changes):
    record = make_record(**WORK)
    record["provenance"] |= {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:10+00:00", **changes}
    write(results, record)
    return lambda epochs: Durations(results).estimate(
        record["labels"], {**record["config"], "train": {**record["config"]["train"], "epochs": epochs}}
    )


def test_the_start_counts_once_and_the_work_for_each_epoch(tmp_path):
    of = estimated(tmp_path)  # five epochs in 50 s of work, within 70 s
    assert of(5).seconds == pytest.approx(70)
    assert of(10).seconds == pytest.approx(120)


@pytest.mark.parametrize("changes", [{"resumed": 1}, {"finished": "2026-01-01T00:00:02+00:00"}])
def test_a_pause_is_no_start(tmp_path, changes):
    assert estimated(tmp_path, **changes)(5).seconds == pytest.approx(55)  # what its own clocks say


def test_a_dry_run_says_when_there_is_no_basis(results_dir, capsys):
    assert main(["sweep", "digits", "--dry-run"]) == 0
    assert "no time estimate: no run of these data sets and models has finished" in capsys.readouterr().out
    write(results_dir, of_cell(plan("digits", ["optimizer=sam", "seed=0"])[0]))
    assert main(["sweep", "digits", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "no time estimate" not in output
    assert "at once, once the workers have started" in output
