"""Many runs: loading, states, speed."""

import subprocess
import sys

import pytest
from support.fabricated import failed, grid, make_record, write, write_plainly

from sam_bench.errors import UsageError
from sam_bench.store import index
from sam_bench.store.folder import RunDirectory
from sam_bench.store.plain_json import as_json_with_checksum


def test_records_come_in_the_asked_order_with_failures_that_never_finished(results_dir):
    records = grid(seeds=range(2))
    for record in records:
        write(results_dir, record)
    lost = make_record("vsam")
    write(results_dir, failed(lost))
    write(results_dir, failed(make_record("graphsam")))
    write(results_dir, make_record("graphsam"))
    names = [record["run_id"] for record in reversed(records)]
    assert [record["run_id"] for record in index.load(results_dir, [*names, "absent"])] == names
    everything = index.load(results_dir)
    assert [record["run_id"] for record in everything] == sorted(
        [*names, lost["run_id"], make_record("graphsam")["run_id"]]
    )
    assert [record["labels"]["optimizer"] for record in everything if record["status"] == "failed"] == ["vsam"]


def test_no_results_folder_is_no_records(tmp_path):
    assert index.load(tmp_path / "nowhere") == []


def test_a_damaged_record_is_named(results_dir):
    good, bad = make_record(seed=0), make_record(seed=1)
    write(results_dir, good)
    (write(results_dir, bad) / "record.json").write_bytes(b'{"schema"')
    with pytest.raises(UsageError, match=bad["run_id"]):
        index.load(results_dir)
    assert [record["run_id"] for record in index.load(results_dir, [good["run_id"]])] == [good["run_id"]]


def test_curve_and_score(results_dir):
    record = make_record(epochs=4)
    write(results_dir, record)
    (loaded,) = index.load(results_dir)
    rows = index.curve(loaded)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["valid/roc_auc"] == record["metrics"]["valid/roc_auc"]
    assert index.score(loaded) == record["metrics"]["test/roc_auc"]
    assert index.score(failed(record)) != index.score(failed(record))


def test_states(results_dir):
    records = {name: make_record(name) for name in ("erm", "sam", "looksam", "vsam", "graphsam", "ae_sam")}
    names = {record["run_id"]: optimizer for optimizer, record in records.items()}
    assert {cell["status"] for cell in index.status(names, results_dir)} == {"planned"}
    write(results_dir, records["erm"])
    write(results_dir, failed(records["sam"]))
    live = RunDirectory(results_dir, records["looksam"]["run_id"])
    live.claim()
    live.heartbeat({"step": 7, "steps": 10})
    code = "import sys; from sam_bench.store.folder import RunDirectory; RunDirectory(sys.argv[1], sys.argv[2]).claim()"
    subprocess.run([sys.executable, "-c", code, results_dir, records["vsam"]["run_id"]], check=True)
    released = RunDirectory(results_dir, records["graphsam"]["run_id"])
    released.claim()
    (released.working / "checkpoint.pt").touch()
    released.release()
    found = {names[cell["run_id"]]: cell for cell in index.status(names, results_dir)}
    states = {name: cell["status"] for name, cell in found.items()}
    assert states == {
        "erm": "finished",
        "sam": "failed",
        "looksam": "running",
        "vsam": "stale",
        "graphsam": "stale",
        "ae_sam": "planned",
    }
    assert found["sam"]["detail"] == "FloatingPointError: the loss is not a number"
    assert found["looksam"]["heartbeat"]["step"] == 7
    assert "--retry-failed" in found["sam"]["advice"]


@pytest.mark.slow
def test_ten_thousand_records_in_seconds(results_dir):
    record = make_record()
    record["config"]["more"] = {f"key_{i}": f"value {i}" for i in range(80)}
    text = as_json_with_checksum(record)
    for number in range(10_000):
        folder = results_dir / "runs" / f"run-{number:05}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_bytes(text)
    code = (
        "import sys, time\n"
        "from sam_bench.store import index\n"
        "begin = time.process_time()\n"
        "records = index.load(sys.argv[1])\n"
        # not ru_maxrss, which starts from what the parent process held
        "kib = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(len(records), time.process_time() - begin, kib)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, results_dir], check=True, capture_output=True, text=True).stdout
    count, seconds, kib = (float(word) for word in out.split())
    assert count == 10_000
    assert seconds < 10, seconds  # half a millisecond each: the schema and the checksum of every record are checked
    assert kib < 2**20, kib
    print(out)


def test_write_plainly_is_what_a_run_writes(results_dir):
    record = make_record()
    write_plainly(results_dir, record)
    assert index.load(results_dir)[0]["metrics"] == record["metrics"]
