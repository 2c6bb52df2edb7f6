"""Whatever stands in a record: what reads it ends well, or in one line that names the file and the key."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fabricated import edit, failed, make_added, make_curve, make_record, write, write_added

from sam_bench.errors import UsageError
from sam_bench.results.report.page import page
from sam_bench.results.tables.table import FORMATS, table
from sam_bench.results.verify import describe, unusable, verify, without_checksum
from sam_bench.store import added, index
from sam_bench.store.plain_json import as_json_with_checksum
from sam_bench.store.record import as_csv

VALUES = [None, True, False, 0, -1, 10**17, -0.5, 1e300, "", "x", "\x1b[31mred\n", "=1+1", "a" * 9999, [], [1], [[]],
          {}, {"": None}, {"name": "x"}, [None, "x"], "../../etc/passwd", "\u2028", "<script>"]  # fmt: skip
DELETE = object()
NUMBERS = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def paths(value, path=()):
    """All keys of a record, the inner ones too."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def changed(content, path, value):
    content = copy.deepcopy(content)
    part = content
    for key in path[:-1]:
        part = part[key]
    if value is DELETE:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return content


def use(results: Path) -> int:
    """All that reads records; how many could not be used. Anything but a UsageError is a bug."""
    names = sorted({path.name.removesuffix(".failed") for path in (results / "runs").iterdir()})
    rows = index.status(names, results)
    records, bad = index.load_readable(results)
    lines = [*bad.values(), *(row["detail"] for row in rows)]
    assert {row["run_id"] for row in rows if row["status"] == "damaged"} <= set(bad)
    for work in (
        lambda: describe([*unusable(bad, records), *verify(records), *without_checksum(records)]),
        lambda: [table(records, format=format) for format in FORMATS],
        lambda: page({"fuzz": records}),
    ):
        try:
            work()
        except UsageError as error:
            lines.append(str(error))
    assert all(line.isprintable() for line in lines), lines
    return len(bad) + len(added.unusable(records))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    for optimizer in ("erm", "sam"):
        write(results, make_record(optimizer))
    write(results, failed(make_record("vsam")))
    write_added(results, make_record("sam"), "sharpness")
    return results


SOUND = {
    "finished": make_record("sam"),
    "failed": failed(make_record("vsam")),
    **{kind: make_added(make_record("sam"), kind) for kind in added.KINDS},
}
KEYS = {name: sorted(paths(content | {"schema": 2}), key=str) for name, content in SOUND.items()}


def file_of(results: Path, name: str) -> Path:
    if name in added.KINDS:
        content = SOUND[name]
        return added.place(results, name, content["run_id"], content["settings"], content["weights_sha256"])
    end = ".failed" if name == "failed" else ""
    return results / "runs" / f"{SOUND[name]['run_id']}{end}" / "record.json"


def try_change(results: Path, name: str, path: tuple, value) -> int:
    """Change one key of one record, sealed as if it were meant, use it, and put the record back."""
    file = file_of(results, name)
    file.parent.mkdir(exist_ok=True)
    before = file.read_bytes() if file.exists() else None
    file.write_bytes(as_json_with_checksum(changed(SOUND[name] | {"schema": 2}, path, value)))
    try:
        return use(results)
    finally:
        file.unlink() if before is None else file.write_bytes(before)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_any_key_may_hold_anything(folder, draw):
    name = draw.draw(st.sampled_from(sorted(SOUND)))
    path = draw.draw(st.sampled_from(KEYS[name]))
    try_change(folder, name, path, draw.draw(st.sampled_from([*VALUES, DELETE]) | ANYTHING))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("metrics", "test/roc_auc"), "high", "metrics.test/roc_auc is 'high', not a number"),
        (("train_seconds",), None, "train_seconds is None, not a number"),
        (("grad_evals",), True, "grad_evals is True, not a number"),
        (("labels",), [], "labels is a list, not an object"),
        (("labels", "seed"), DELETE, "labels: the key seed is missing"),
        (("run_id",), "../../x", "run_id is '../../x', which does not match"),
        (("data", "sizes", "train"), "many", "data.sizes.train is 'many'"),
        (("sam_fraction",), 2, "sam_fraction is 2, beyond 1"),
        (("status",), "done", "status is 'done', not finished or failed"),
        (("provenance", "hardware", "threads"), "\x1b", "provenance.hardware.threads is '\\\\x1b'"),
    ],
)
def test_the_line_names_the_file_and_the_key(results_dir, path, value, says):
    file = write(results_dir, make_record("sam")) / "record.json"
    file.write_bytes(as_json_with_checksum(changed(make_record("sam"), path, value)))
    with pytest.raises(UsageError, match=says) as caught:
        index.load(results_dir)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"schema": 1, "schema": 1}', "'schema' comes twice"),
        (b'{"schema": NaN}', "NaN is no JSON"),
        (b'{"schema": 1e999}', "too large a number"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "too large a number"),
        (b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}", "within each other"),
        (b"[" * 200_000, "within each other"),
        (b'{"a": "\xff"}', "not whole"),
        (b'{"a": "\\ud800"}', "not whole"),
        (b"\xef\xbb\xbf{}", "not whole"),
        (b"", "not whole"),
    ],
)
def test_what_is_no_plain_json_is_one_line(results_dir, raw, says):
    file = write(results_dir, make_record("sam")) / "record.json"
    file.write_bytes(raw)
    with pytest.raises(UsageError, match=says) as caught:
        index.load(results_dir)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("change", [{}, {"schema": 2, "sha256": None}])
def test_an_edit_without_a_new_checksum_is_refused(results_dir, change):
    file = write(results_dir, make_record("sam")) / "record.json"
    edit(file, lambda record: record.update({"throughput": 9.0}, **change), sealed=False)
    with pytest.raises(UsageError, match="sha256"):
        index.load(results_dir)


def test_a_record_written_again_by_another_program_is_the_same_record(results_dir):
    file = write(results_dir, make_record("sam")) / "record.json"
    before = index.load(results_dir)
    file.write_text(json.dumps(json.loads(file.read_bytes()), sort_keys=True, ensure_ascii=False))
    assert index.load(results_dir) == before


def test_an_edited_added_record_is_refused(results_dir):
    write(results_dir, make_record("sam"))
    path = write_added(results_dir, make_record("sam"), "sharpness")
    edit(path, lambda content: content["trace"].update(mean=1.0), sealed=False)
    records = index.load(results_dir)
    with pytest.raises(UsageError, match="sha256 is not the checksum"):
        table(records)
    (finding,) = unusable({}, records)
    assert path.name in finding.message


def test_verify_lists_every_record_that_cannot_be_used(results_dir):
    files = [write(results_dir, make_record("sam", seed=seed)) / "record.json" for seed in range(4)]
    files[0].write_bytes(b"{")
    edit(files[2], lambda record: record.update(steps=-1))
    edit(files[3], lambda record: record.update(steps=7), sealed=False)
    records, bad = index.load_readable(results_dir)
    assert len(records) == 1
    text = describe(unusable(bad, records))
    assert [line.split()[:2] for line in text.splitlines()] == [["fail", "record"]] * 3
    assert all(str(file) in text for file in (files[0], files[2], files[3]))
    with pytest.raises(UsageError, match="2 more runs"):
        index.load(results_dir)


def test_records_from_before_the_checksum_are_read_and_noted(results_dir):
    file = write(results_dir, make_record("sam")) / "record.json"
    edit(file, lambda record: [record.update(schema=1), record.pop("sha256")], sealed=False)
    records = index.load(results_dir)
    assert not [finding for finding in verify(records) if finding.level == "fail"]
    (note,) = without_checksum(records)
    assert note.level == "note"
    assert describe([note]).startswith("nothing is wrong")


@pytest.mark.parametrize(
    "text", ["", "epoch\n1", "a,b\n1,2,3", "epoch,step\nnan,1", "\x00", "epoch,step\nx,y", "\udc80"]
)
def test_a_curve_that_is_none_is_one_line(results_dir, text):
    folder = write(results_dir, make_record("sam"))
    (record,) = index.load(results_dir)
    (folder / "curve.csv").write_bytes(text.encode(errors="surrogateescape"))
    try:
        assert index.curve(record) == []
    except UsageError as error:
        assert "curve.csv" in str(error)  # noqa: PT017 - an empty file is an empty curve
    (folder / "curve.csv").write_bytes(as_csv(make_curve(record)))
    assert len(index.curve(record)) == record["epochs"]
