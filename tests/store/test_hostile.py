"""Somebody else's results folder: links, pipes, special files and foreign names lead nowhere and lose nothing."""

import os
import warnings

import pytest
from support.fabricated import failed, make_added, make_curve, make_record, write, write_added

from sam_bench.errors import UsageError
from sam_bench.store import added, index, lease
from sam_bench.store.disk import open_log
from sam_bench.store.folder import RunDirectory
from sam_bench.store.record import damaged_files, read_record

pytestmark = pytest.mark.timeout(60)  # a pipe that is opened blocks for ever


@pytest.fixture
def home(tmp_path):
    """A folder of the user's that no command is told of."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    for name in (".bashrc", ".ssh/key", "checkpoint.pt", "notes.tmp", ".heartbeat.json." + "0" * 32):
        (folder / name).write_text("mine")
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("end", ["", ".running", ".failed"])
def test_a_run_folder_that_is_a_link_is_refused_and_loses_nothing(results_dir, home, end):
    before, runs = contents(home), results_dir / "runs"
    runs.mkdir(parents=True)
    (runs / f"a{end}").symlink_to(home)
    with pytest.raises(UsageError, match="link"):
        RunDirectory(results_dir, "a").claim()
    assert contents(home) == before
    (row,) = index.status(["a"], results_dir)
    assert row["status"] == ("failed" if end == ".failed" else "damaged")
    assert "link" in row["detail"]


@pytest.mark.parametrize("name", ["runs", "sharpness"])
def test_a_part_of_the_results_folder_that_is_a_link_is_refused(results_dir, home, name):
    before, record = contents(home), make_record()
    results_dir.mkdir()
    (results_dir / name).symlink_to(home)
    with pytest.raises(UsageError, match="link"):
        write(results_dir, record) if name == "runs" else write_added(results_dir, record, "sharpness")
    with pytest.raises(UsageError, match="link"):
        index.load(results_dir) if name == "runs" else added.load([record | {"path": results_dir / "runs/a"}], name)
    assert contents(home) == before


def test_a_results_folder_may_itself_be_a_link_of_the_user(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "scratch")
    write(tmp_path / "results", make_record())
    assert len(index.load(tmp_path / "results")) == 1


def test_tidying_deletes_only_what_the_program_makes(results_dir, home):
    record = make_record()
    run = RunDirectory(results_dir, record["run_id"])
    run.working.parent.mkdir(parents=True)
    home.rename(run.working)  # real folders and files with names of their own
    mine = {path: text for path, text in contents(run.working).items() if path.name in (".bashrc", "key", "notes.tmp")}
    assert run.claim()
    run.finish(record, make_curve(record))
    left = contents(run.final)
    assert left.keys() == {*mine, *map(type(run.final), ("record.json", "curve.csv"))}
    assert mine.items() <= left.items()


def test_an_earlier_failure_with_notes_beside_it_is_not_deleted(results_dir):
    record = failed(make_record())
    folder = write(results_dir, record)
    (folder / "notes.txt").write_text("why")
    write(results_dir, record)
    (note,) = results_dir.glob("runs/.*/notes.txt")
    assert note.read_text() == "why"


@pytest.mark.parametrize("name", ["checkpoint.pt", "best.pt", "record.json", "lease.3", "heartbeat.json"])
@pytest.mark.parametrize("kind", ["link", "zero", "pipe", "folder"])
def test_what_has_a_name_of_ours_must_be_a_file(results_dir, home, name, kind):
    before, run = contents(home), RunDirectory(results_dir, "a")
    run.working.mkdir(parents=True)
    plant(run.working / name, kind, home / ".bashrc")
    with pytest.raises(UsageError, match=name):
        run.claim()
    assert index.status(["a"], results_dir)[0]["status"] in ("planned", "stale", "running")
    assert lease.state(run.working) in ("free", "live")
    assert contents(home) == before


def plant(path, kind, target):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target if kind == "link" else "/dev/zero")


@pytest.mark.parametrize("kind", ["link", "zero", "pipe", "folder", "endless"])
@pytest.mark.parametrize("name", ["record.json", "curve.csv", "best.pt"])
def test_a_finished_run_with_special_files_is_named(results_dir, tmp_path, kind, name):
    record = make_record()
    folder = write(results_dir, record)
    (loaded,) = index.load(results_dir)
    loaded["files"]["best.pt"] = "0" * 64
    (folder / name).unlink(missing_ok=True)
    (tmp_path / "secret.json").write_text("{}")
    if kind == "endless":
        with open(folder / name, "wb") as file:
            file.truncate(2**40)
    else:
        plant(folder / name, kind, tmp_path / "secret.json")
    assert name == "record.json" or name in damaged_files(folder, loaded)
    for read in {"record.json": (read_record, index.load), "curve.csv": (index.curve,)}.get(name, ()):
        with pytest.raises(UsageError, match=name):
            read({read_record: folder, index.load: results_dir, index.curve: loaded}[read])


def test_files_that_a_record_names_are_its_own_two(results_dir):
    record = read_record(write(results_dir, make_record())) | {"files": {"/dev/zero": "0" * 64, "../x": "0" * 64}}
    assert damaged_files(results_dir / "runs", record) == []


@pytest.mark.parametrize("kind", ["link", "zero", "pipe", "folder", "hard link", "folder link"])
def test_a_log_leads_nowhere(results_dir, home, kind):
    before, log = contents(home), results_dir / "logs" / "a.log"
    results_dir.mkdir()
    if kind == "folder link":
        log.parent.symlink_to(home)
    else:
        log.parent.mkdir()
        os.link(home / ".bashrc", log) if kind == "hard link" else plant(log, kind, home / ".bashrc")
    with pytest.raises(UsageError, match="sam-bench does not touch it"):
        os.write(open_log(log), b"text of the attacker")
    assert contents(home) == before


def test_a_foreign_checkpoint_is_named_in_one_line(tmp_path):
    from sam_bench.training import checkpoint

    checkpoint.save(tmp_path, {"run_id": "x\n* * * * * rm -rf ~\n\x1b[2J", "training": {}})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert checkpoint.load(tmp_path, "a") is None
    (line,) = [str(warning.message) for warning in told]
    assert line.isprintable()


def test_the_draft_of_a_checkpoint_follows_no_link(tmp_path, home):
    from sam_bench.training import checkpoint

    before = contents(home)
    for number in range(os.getpid() - 2, os.getpid() + 3):
        (tmp_path / f"checkpoint.pt.{number}.tmp").symlink_to(home / ".bashrc")
    checkpoint.save(tmp_path, {"run_id": "a"})
    assert contents(home) == before


def test_an_added_record_that_is_a_link_is_refused(results_dir, tmp_path):
    record = read_record(write(results_dir, make_record())) | {"path": str(results_dir / "runs" / "a")}
    path = write_added(results_dir, record, "sharpness")
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UsageError, match="link"):
        added.load([record], "sharpness")
    assert not added.write(path, make_added(record, "sharpness"))
    assert path.is_symlink()


def test_slurm_logs_lead_nowhere(results_dir, home, monkeypatch):
    slurm = pytest.importorskip("sam_bench.sweeps.engines.slurm")
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/usr/bin/{name}")
    (results_dir / "logs").mkdir(parents=True)
    (results_dir / "logs" / "slurm").symlink_to(home)
    with pytest.raises(UsageError, match="link"):
        slurm.SlurmEngine(results_dir)
