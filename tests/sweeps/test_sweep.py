"""What a sweep makes of the ends that an engine reports, and of cells that others work on; without torch."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.fabricated import failed, make_curve, make_record, write

from sam_bench.api import Outcome, RunSpec
from sam_bench.errors import UsageError
from sam_bench.store.folder import RunDirectory
from sam_bench.sweeps import sweep as sweeping
from sam_bench.sweeps.estimate import Durations, wall_time
from sam_bench.sweeps.filters import matching
from sam_bench.sweeps.sweep import Sweep, pending


def cell(optimizer="sam", seed=0):
    record = make_record(optimizer, seed)
    return RunSpec(record["run_id"], record["labels"], (), record["config"], "fabricated")


class FakeJob:
    def __init__(self, made, script):
        self.cell, self.script, self.started = made, script, time.monotonic()
        self.stopped = self.killed = 0

    def poll(self):
        return self.script(self) if callable(self.script) else self.script

    def stop(self):
        self.stopped += 1

    def kill(self):
        self.killed += 1


class FakeEngine:
    """Ends its jobs as `scripts` says, {run_id: [end of the first attempt, ...]}."""

    def __init__(self, scripts, capacity=2):
        self.scripts, self.capacity, self.jobs = scripts, capacity, []

    def start(self, cells):
        assert len(cells) <= self.capacity
        for made in cells:
            script = self.scripts[made.run_id]
            self.jobs.append(FakeJob(made, script.pop(0) if isinstance(script, list) else script))
            yield self.jobs[-1]


@pytest.fixture
def sweep(results_dir, monkeypatch):
    """Runs a sweep on a fake engine; returns its outcome and the engine's jobs."""
    monkeypatch.setattr(sweeping, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(sweeping, "LOOK_AGAIN", 0.02)

    def run(scripts, cells=None, retries=2, show=lambda sweep: None):
        engine = FakeEngine(scripts)
        worker = Sweep(cells or [cell()], results_dir, engine, retries=retries, show=show)
        return worker.run(), engine.jobs

    return run


def test_a_killed_cell_is_taken_up_again_so_many_times(sweep):
    name = cell().run_id
    outcome, jobs = sweep({name: [("killed", "SIGKILL"), ("stopped", "by somebody"), ("finished", "")]})
    assert (outcome[Outcome.FINISHED], len(jobs)) == ([name], 3)
    outcome, jobs = sweep({name: [("killed", "SIGKILL")] * 3})
    assert (outcome[Outcome.FAILED], len(jobs)) == ([name], 3)
    assert "SIGKILL; gave up after 2 retries" in outcome.messages[name]


def test_a_refused_and_a_failed_cell_do_not_stop_the_others(sweep):
    cells = [cell("sam"), cell("erm"), cell("vsam"), cell("looksam")]
    ends = [("refused", "no such file"), ("failed", "NaN"), ("finished", ""), ("finished", "")]
    outcome, jobs = sweep({c.run_id: end for c, end in zip(cells, ends, strict=True)}, cells)
    assert (outcome[Outcome.REFUSED], outcome[Outcome.FAILED]) == ([cells[0].run_id], [cells[1].run_id])
    assert outcome[Outcome.FINISHED] == [cells[2].run_id, cells[3].run_id]
    assert len(jobs) == 4


def test_a_busy_cell_is_waited_for_and_counted_when_the_other_sweep_has_made_it(sweep, results_dir):
    theirs, made = RunDirectory(results_dir, cell().run_id), make_record("sam")
    others = [cell("sam"), cell("erm")]

    def busy(job):
        assert theirs.claim()  # between the look at the lease and the start of the job
        threading.Timer(0.1, lambda: theirs.finish(made, make_curve(made))).start()
        return "busy", "somebody else"

    outcome, jobs = sweep({others[0].run_id: [busy], others[1].run_id: ("finished", "")}, others)
    assert sorted(outcome[Outcome.FINISHED]) == sorted(c.run_id for c in others)
    assert len(jobs) == 2  # the busy cell was started once, then only looked at


@pytest.mark.parametrize("retried", [False, True])
def test_a_cell_that_failed_in_another_sweep_is_not_repeated(sweep, results_dir, retried):
    if retried:
        write(results_dir, failed(make_record("sam"), "long ago"))

    def busy(job):
        write(results_dir, failed(make_record("sam"), "just now"))
        return "busy", "somebody else"

    outcome, jobs = sweep({cell().run_id: [busy]})
    assert (outcome[Outcome.FAILED], len(jobs)) == ([cell().run_id], 1)
    assert "just now" in outcome.messages[cell().run_id]


def test_pending_leaves_out_what_is_settled(results_dir):
    write(results_dir, make_record("erm"))
    write(results_dir, failed(make_record("sam")))
    cells = [cell("erm"), cell("sam"), cell("vsam")]
    assert pending(cells, results_dir, retry_failed=False) == cells[2:]
    assert pending(cells, results_dir, retry_failed=True) == cells[1:]


def test_the_first_interrupt_stops_and_the_second_kills(sweep):
    def interrupt(worker):
        if len(worker.running) == 1 and worker.interrupts < 2:
            signal.raise_signal(signal.SIGINT)

    begin = time.monotonic()
    outcome, (job,) = sweep({cell().run_id: [None]}, show=interrupt)
    assert time.monotonic() - begin < 1
    assert (job.stopped, job.killed, outcome[Outcome.STOPPED]) == (1, 1, [cell().run_id])


def test_an_interrupted_sweep_ends_when_its_jobs_have_stopped(sweep):
    def interrupt(worker):
        if not worker.interrupts:
            signal.raise_signal(signal.SIGINT)

    cells = [cell(seed=seed) for seed in range(5)]
    outcome, jobs = sweep({c.run_id: lambda job: ("stopped", "") if job.stopped else None for c in cells}, cells,
                          show=interrupt)  # fmt: skip
    assert (len(jobs), len(outcome[Outcome.STOPPED])) == (2, 2)
    assert not any(job.killed for job in jobs)


def test_filters_choose_by_label_and_by_configuration():
    cells = [cell(optimizer, seed) for optimizer in ("erm", "sam") for seed in range(3)]
    assert matching(cells, ["optimizer=sam", "seed=0,2"]) == [cells[3], cells[5]]
    assert matching(cells, []) == cells
    assert matching(cells, [f"train.epochs={cells[0].config['train']['epochs']}"]) == cells
    for bad, says in [
        ("optimizer", "write key=value"),
        ("sed=0", "Did you mean 'seed'"),
        ("optimizer=sma", "Did you mean 'sam'"),
        ("seed=9", "Known: 0, 1, 2"),
    ]:
        with pytest.raises(UsageError, match=says):
            matching(cells, [bad])


def test_durations_come_from_the_same_method_first_and_grow_with_the_epochs(results_dir):
    for seed, seconds in enumerate((10.0, 30.0, 20.0)):
        write(results_dir, {**make_record("sam", seed), "train_seconds": seconds, "eval_seconds": 1.0,
                            "setup_seconds": 2.0})  # fmt: skip
    write(results_dir, failed(make_record("erm")))
    known, other = cell("sam", 7), cell("vsam")
    durations = Durations(results_dir)
    assert durations.estimate(known.labels, known.config).seconds == 23.0
    longer = json.loads(json.dumps(known.config))
    longer["train"]["epochs"] *= 2
    assert durations.estimate(known.labels, longer).seconds == 44.0
    found = durations.estimate(other.labels, other.config)
    assert (found.seconds, found.records, found.source) == (23.0, 3, " of other methods")
    assert durations.estimate({**known.labels, "dataset": "esol"}, known.config).seconds is None
    assert wall_time([3.0, 2.0, 2.0], 2) == 4.0


def test_planning_a_sweep_needs_no_torch():
    code = (
        "import sys, sam_bench.sweeps.sweep, sam_bench.sweeps.engines.local, sam_bench.sweeps.filters\n"
        "import sam_bench.commands.status\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
