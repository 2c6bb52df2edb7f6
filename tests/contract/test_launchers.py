"""A launcher's job goes through, is lost, fails, or is refused: each has its answer."""

from pathlib import Path

from sam_bench.api import Outcome, RunSpec
from sam_bench.contract import launcher_contract
from sam_bench.errors import UsageError
from sam_bench.store.folder import RunDirectory

CELL = RunSpec("a-run", {}, (), {}, None)


class Answer:
    """A job that ends after some looks, or never."""

    def __init__(self, end: tuple[Outcome, str] | None, folder: Path, writes: bool = True):
        self.cell, self.started, self.end, self.looks, self.killed = CELL, 0.0, end, 0, False
        self.folder, self.writes = folder, writes

    def poll(self):
        self.looks += 1
        if self.looks < 2 or self.end is None:
            return None
        if self.writes:
            final = RunDirectory(self.folder, CELL.run_id).final
            final.mkdir(parents=True, exist_ok=True)
            (final / "record.json").write_text("{}")
        return self.end

    def stop(self):
        pass

    def kill(self):
        self.killed = True


class Engine:
    capacity = 3

    def __init__(self, job: Answer | None):
        self.job = job

    def start(self, cells):
        if self.job is None:
            raise UsageError("SLURM refuses the job array: invalid partition")
        yield self.job


def points(job: Answer | None, folder: Path, seconds: float = 5.0) -> dict[str, str]:
    report = launcher_contract("here", Engine(job), CELL, folder, seconds=seconds)
    assert all(result.advice for result in report.failed)
    return {result.point: result.seen for result in report.failed}


def test_a_job_that_comes_back(tmp_path):
    assert points(Answer((Outcome.FINISHED, ""), tmp_path), tmp_path) == {}


def test_a_job_that_nobody_takes(tmp_path):
    failed = points(None, tmp_path)
    assert "invalid partition" in failed["1"]
    assert failed["2"] == "no job was taken"


def test_a_job_that_fails_or_is_lost(tmp_path):
    failed = points(Answer((Outcome.FAILED, "ImportError: no sam_bench"), tmp_path, writes=False), tmp_path)
    assert failed.keys() == {"2", "3"}
    assert failed["2"] == "it ended as failed: ImportError: no sam_bench"
    lost = Answer(None, tmp_path)
    assert "no answer after" in points(lost, tmp_path, seconds=0.5)["2"]
    assert lost.killed


def test_a_record_that_does_not_arrive(tmp_path):
    assert points(Answer((Outcome.FINISHED, ""), tmp_path, writes=False), tmp_path).keys() == {"3"}
