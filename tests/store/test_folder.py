"""One run on disk: whole or not at all, claimed by one process at a time."""

import copy
import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.fabricated import failed, make_curve, make_record, write

from sam_bench.errors import UsageError
from sam_bench.store import folder, lease, owner
from sam_bench.store.disk import atomic_write
from sam_bench.store.folder import LeaseLost, RunDirectory
from sam_bench.store.identity import run_id
from sam_bench.store.lease import Lease, state
from sam_bench.store.record import damaged_files, read_record

WORKER = """
import os, random, signal, sys, time
sys.path[:0] = [{tests!r}]
from support.fabricated import make_curve, make_record
from sam_bench.store.folder import RunDirectory
chance = float(sys.argv[2])
draw = random.Random()
for seed in range(int(sys.argv[3])):
    done = make_record(seed=seed)
    run = RunDirectory(sys.argv[1], done["run_id"])
    for step in range(3):
        if run.claim():
            with open(os.path.join(sys.argv[1], "log"), "a") as log:
                log.write(f"{{seed}} {{os.getpid()}}\\n")
            if draw.random() < chance:
                os.kill(os.getpid(), signal.SIGKILL)
            (run.working / "checkpoint.pt").write_bytes(b"state")
            run.heartbeat({{"step": step}})
            run.finish(done, make_curve(done))
"""


def without_files(folder):
    """A record as it was handed to `finish`: without the checksums that it adds."""
    return {key: value for key, value in read_record(folder).items() if key not in ("files", "sha256")}


def worker(results_dir, chance, seeds, tmp_path) -> subprocess.Popen:
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=os.path.dirname(__file__)))
    return subprocess.Popen([sys.executable, script, results_dir, str(chance), str(seeds)])


def test_finish_leaves_record_curve_and_nothing_else(results_dir):
    done = make_record()
    run = RunDirectory(results_dir, done["run_id"])
    assert run.claim()
    (run.working / "checkpoint.pt").write_bytes(b"state")
    (run.working / "best.pt").write_bytes(b"weights")
    run.heartbeat({"step": 3, "steps": 10})
    assert json.loads((run.working / "heartbeat.json").read_text())["step"] == 3
    run.finish(done, make_curve(done))
    assert sorted(path.name for path in run.final.iterdir()) == ["best.pt", "curve.csv", "record.json"]
    assert not run.working.exists()
    assert without_files(run.final) == done
    head = (run.final / "curve.csv").read_text().splitlines()[0]
    assert head == "epoch,step,grad_evals,train_seconds,lr,sam_fraction,train/loss,valid/roc_auc"


def test_a_finished_run_is_neither_claimed_nor_overwritten(results_dir):
    done = make_record()
    first, late = RunDirectory(results_dir, done["run_id"]), RunDirectory(results_dir, done["run_id"])
    assert first.claim()
    first.finish(done, [])
    assert not late.claim()
    late.working.mkdir()
    assert late.lease.acquire()  # as if it had been claimed a moment before the other one finished
    with pytest.raises(UsageError, match="never overwritten"):
        late.finish(done, [])


def test_only_one_claims_until_it_is_released(results_dir):
    first, second = RunDirectory(results_dir, "a"), RunDirectory(results_dir, "a")
    assert first.claim()
    assert first.claim()
    assert not second.claim()
    assert state(first.working) == "live"
    first.release()
    assert state(first.working) == "free"
    assert second.claim()
    with pytest.raises(LeaseLost):
        first.finish(make_record(), [])


def test_the_lease_of_a_dead_process_is_taken_over(results_dir):
    code = f"from sam_bench.store.folder import RunDirectory; RunDirectory({str(results_dir)!r}, 'a').claim()"
    subprocess.run([sys.executable, "-c", code], check=True)
    run = RunDirectory(results_dir, "a")
    assert state(run.working) == "stale"
    assert run.claim()


def test_an_owner_elsewhere_counts_as_gone_after_its_silence(results_dir, monkeypatch):
    elsewhere = {**owner.identity(), "host": "other", "machine": "m", "boot": "b"}
    monkeypatch.setattr(owner, "identity", lambda: elsewhere)
    theirs = RunDirectory(results_dir, "a", stale_after=100)
    assert theirs.claim()
    theirs.heartbeat({"step": 1})
    monkeypatch.undo()
    ours = RunDirectory(results_dir, "a", stale_after=100)
    assert not ours.claim()
    old = time.time() - 101
    for path in theirs.working.iterdir():
        os.utime(path, (old, old))
    assert ours.claim()
    theirs._last_heartbeat = 0.0
    with pytest.raises(LeaseLost, match=str(os.getpid())):
        theirs.heartbeat({"step": 2})


def test_a_reboot_frees_the_lease_at_once(results_dir, monkeypatch):
    before = {**owner.identity(), "boot": "another", "machine": "this"}
    monkeypatch.setattr(owner, "identity", lambda: before)
    assert RunDirectory(results_dir, "a").claim()
    monkeypatch.setattr(owner, "identity", lambda: {**before, "boot": "now"})
    assert RunDirectory(results_dir, "a").claim()


def test_a_taker_with_an_old_view_loses(tmp_path, monkeypatch):
    """It judged lease 0 stale, slept while others took, used and cleared 1, and wakes to create 1 again."""
    first = Lease(tmp_path)
    assert first.acquire()
    first.release()
    real, sleeper, awake = lease._publish, Lease(tmp_path), Lease(tmp_path)

    def meanwhile(*arguments):
        monkeypatch.setattr(lease, "_publish", real)
        for _ in range(2):
            assert awake.acquire()
            awake.release()
        assert awake.acquire()
        return real(*arguments)

    monkeypatch.setattr(lease, "_publish", meanwhile)
    assert not sleeper.acquire()
    assert awake.held()


def test_leases_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert first.acquire()
    assert not second.acquire()


@pytest.mark.parametrize("moment", ["curve.csv", "record.json", "rename", "lease"])
def test_a_kill_while_finishing_leaves_a_final_or_a_resumable_run(results_dir, monkeypatch, moment):
    done = make_record()
    run = RunDirectory(results_dir, done["run_id"])
    assert run.claim()
    (run.working / "checkpoint.pt").write_bytes(b"state")
    real_replace = os.replace

    class Killed(BaseException):
        pass

    def replace(source, target):
        if os.path.basename(target) == moment:
            raise Killed
        return real_replace(source, target)

    def die(*_):
        raise Killed

    monkeypatch.setattr(os, "replace", replace)
    if moment == "rename":
        monkeypatch.setattr(type(run.working), "rename", die)
    if moment == "lease":
        monkeypatch.setattr(folder, "sync_folder", lambda folder: die() if folder == run.final.parent else None)
    with pytest.raises(Killed):
        run.finish(done, make_curve(done))
    monkeypatch.undo()
    run.lease.release()  # what the death of the process does
    again = RunDirectory(results_dir, done["run_id"])
    if moment in ("rename", "lease"):
        assert not again.claim()
    else:
        assert again.claim()
        assert (again.working / "checkpoint.pt").exists()
        again.finish(done, make_curve(done))
    assert without_files(run.final) == done
    assert not run.working.exists()


def test_a_later_failure_replaces_the_earlier_one_and_a_success_stays_apart(results_dir):
    done = make_record()
    write(results_dir, failed(done, "first"))
    folder = write(results_dir, failed(done, "second"))
    assert read_record(folder)["error"]["message"] == "second"
    write(results_dir, done)
    assert sorted(path.name for path in (results_dir / "runs").iterdir()) == [done["run_id"], folder.name]


def test_killed_workers_lose_and_double_nothing(results_dir, tmp_path):
    (results_dir).mkdir()
    for _ in range(4):
        crowd = [worker(results_dir, 0.3, 6, tmp_path) for _ in range(5)]
        ends = [process.wait() for process in crowd]
        assert set(ends) <= {0, -signal.SIGKILL}
    assert worker(results_dir, 0.0, 6, tmp_path).wait() == 0
    names = sorted(path.name for path in (results_dir / "runs").iterdir())
    assert names == sorted(make_record(seed=seed)["run_id"] for seed in range(6))
    for seed in range(6):
        done = make_record(seed=seed)
        assert without_files(results_dir / "runs" / done["run_id"]) == done


def test_sixteen_writers_compute_no_run_twice_and_corrupt_none(results_dir, tmp_path):
    (results_dir).mkdir()
    crowd = [worker(results_dir, 0.0, 40, tmp_path) for _ in range(16)]
    assert [process.wait() for process in crowd] == [0] * len(crowd)
    seeds = [line.split()[0] for line in (results_dir / "log").read_text().splitlines()]
    assert sorted(seeds, key=int) == [str(seed) for seed in range(40)]
    assert len(list((results_dir / "runs").iterdir())) == 40
    for seed in range(40):
        done = make_record(seed=seed)
        folder = results_dir / "runs" / done["run_id"]
        assert without_files(folder) == done
        assert damaged_files(folder, read_record(folder)) == []


def test_undefined_metrics_become_null_in_valid_json(results_dir):
    done = make_record(metrics={"test/roc_auc": float("nan"), "valid/roc_auc": 0.5})
    text = (write_path := write_without_curve(results_dir, done)).read_text()
    assert "NaN" not in text
    assert read_record(write_path)["metrics"]["test/roc_auc"] is None


def write_without_curve(results_dir, done):
    run = RunDirectory(results_dir, done["run_id"])
    run.claim()
    return run.finish(done, []) / "record.json"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"schema": 1, "run', "not whole"),
        (b"\xff\x00", "not whole"),
        (b'{"a": 1}', "not a record"),
        (b"[]", "not a record"),
        (b'{"schema": 9, "run_id": "a", "status": "finished", "labels": {}, "config": {}}', "schema 9"),
        (b'{"schema": 1, "status": "finished", "labels": {}, "config": {}}', "the key run_id is missing"),
        (None, "holds no record"),
    ],
)
def test_torn_and_foreign_records_are_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_record(tmp_path)


def test_a_torn_record_in_a_working_folder_is_dropped_and_the_run_resumed(results_dir):
    run = RunDirectory(results_dir, "a")
    run.working.mkdir(parents=True)
    (run.working / "record.json").write_bytes(b"{")
    assert run.claim()


@pytest.mark.parametrize("file", ["curve.csv", "best.pt"])
def test_a_record_whose_files_are_torn_is_not_made_final(results_dir, monkeypatch, file):
    """A power cut after record.json was written, before the folder was renamed."""
    done = make_record()
    run = RunDirectory(results_dir, done["run_id"])
    assert run.claim()
    (run.working / "best.pt").write_bytes(b"weights")
    monkeypatch.setattr(RunDirectory, "_settle", lambda *_: None)
    run.finish(done, make_curve(done))
    monkeypatch.undo()
    run.lease.release()
    torn = run.working / file
    torn.write_bytes(torn.read_bytes()[:3])
    again = RunDirectory(results_dir, done["run_id"])
    assert again.claim()
    (again.working / "best.pt").write_bytes(b"weights")
    again.finish(done, make_curve(done))
    assert damaged_files(again.final, read_record(again.final)) == []
    (again.final / file).write_bytes(b"x")
    assert damaged_files(again.final, read_record(again.final)) == [file]


def test_an_unused_claim_leaves_nothing(results_dir):
    run = RunDirectory(results_dir, "a")
    assert run.claim()
    run.heartbeat({"step": 0})
    run.release()
    assert not results_dir.exists()
    (results_dir / "runs").mkdir(parents=True)
    assert run.claim()
    run.release()
    assert list((results_dir / "runs").iterdir()) == []


def test_a_lease_of_a_folder_that_was_made_anew_is_not_held(results_dir):
    sleeper, other = RunDirectory(results_dir, "a"), RunDirectory(results_dir, "a")
    assert sleeper.claim()
    os.rename(sleeper.working, results_dir / "gone")
    assert other.claim()
    assert other.lease.number == sleeper.lease.number
    assert not sleeper.lease.held()
    assert other.lease.held()


def test_a_damaged_lease_still_belongs_to_its_owner(results_dir):
    run = RunDirectory(results_dir, "a")
    assert run.claim()
    (run.working / "lease.0").write_bytes(b"")
    assert run.lease.held()
    assert not RunDirectory(results_dir, "a").claim()


def test_a_claim_clears_the_drafts_of_the_dead(results_dir):
    run = RunDirectory(results_dir, "a")
    run.working.mkdir(parents=True)
    for name in ("checkpoint.pt", "checkpoint.pt.12.tmp", f".heartbeat.json.{'1' * 32}", ".heartbeat.json.mine"):
        (run.working / name).touch()
    assert run.claim()
    assert sorted(path.name for path in run.working.iterdir()) == [
        ".heartbeat.json.mine", "checkpoint.pt", "lease.0"]  # fmt: skip


def test_a_long_set_up_keeps_its_lease(results_dir, monkeypatch):
    elsewhere = {**owner.identity(), "host": "other", "machine": "m", "boot": "b"}
    monkeypatch.setattr(owner, "identity", lambda: elsewhere)
    theirs = RunDirectory(results_dir, "a", stale_after=0.4)
    assert theirs.claim()
    with theirs.alive():
        time.sleep(0.8)
        monkeypatch.undo()
        assert not RunDirectory(results_dir, "a", stale_after=0.4).claim()
    time.sleep(0.6)
    assert RunDirectory(results_dir, "a", stale_after=0.4).claim()


def test_the_time_after_which_a_lease_is_stale_can_be_set(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_BENCH_STALE_AFTER", "7.5")
    assert Lease(tmp_path).stale_after == 7.5
    monkeypatch.setenv("SAM_BENCH_STALE_AFTER", "soon")
    with pytest.raises(UsageError, match="SAM_BENCH_STALE_AFTER='soon'"):
        Lease(tmp_path)


def test_a_full_disk_and_a_missing_permission_give_advice(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="free some"):
        atomic_write(tmp_path / "a", b"1")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="SAM_BENCH_RESULTS"):
        RunDirectory(tmp_path / "file", "a").claim()


def test_the_name_of_a_run_depends_on_what_decides_its_result():
    done = make_record(optimizer="graphsam")
    name = run_id(done["labels"], done["config"])
    assert name.startswith("bbbp-grover-adam-graphsam-seed0-")
    assert len(name.rpartition("-")[2]) == 8
    for path, value, same in [
        ("device", "cuda:1", True),
        ("logger", {"_target_": "x"}, True),
        ("hydra", {"job": 1}, True),
        ("experiment", "other", True),
        ("train.checkpoint_every", 5, True),
        ("train.batch_size", 32.0, True),
        ("train.batch_size", 64, False),
        ("optimizer.rho", 0.1, False),
        ("split_seed", 1, False),
    ]:
        config = copy.deepcopy(done["config"])
        *groups, key = path.split(".")
        part = config
        for group in groups:
            part = part[group]
        part[key] = value
        assert (run_id(done["labels"], config) == name) is same, path


def test_importing_results_needs_neither_torch_nor_hydra():
    code = (
        "import sys, pkgutil, importlib, sam_bench.results as r\n"
        "for m in pkgutil.iter_modules(r.__path__): importlib.import_module('sam_bench.results.' + m.name)\n"
        "bad = {'torch', 'hydra', 'wandb', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
