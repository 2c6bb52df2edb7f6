"""docs/record.md says what the types say, and a real run writes no key that it does not name."""

import json
import typing

import pytest
from support import ROOT

from sam_bench import api
from sam_bench.store.record_page import page
from sam_bench.store.schema import keys


def test_the_page_is_what_the_types_say():
    told = "give: python -m sam_bench.store.record_page > docs/record.md"
    assert (ROOT / "docs" / "record.md").read_text() == page(), told


def unknown(value, kind, path=""):
    """Keys of a record that its type does not name."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if not typing.is_typeddict(kind):
        return
    named = keys(kind)
    for key, inner in value.items():
        if key in named:
            yield from unknown(inner, named[key][0], f"{path}{key}.")
        elif kind not in (api.Configuration, api.Training):  # a component may have any option
            yield f"{path}{key}"


@pytest.mark.parametrize("record", sorted((ROOT / "results" / "published").glob("runs/*/record.json"))[::9],
                         ids=lambda path: path.parent.name)  # fmt: skip
def test_published_records_have_no_other_keys(record):
    assert list(unknown(json.loads(record.read_bytes()), api.Finished)) == []


@pytest.mark.slow
def test_a_real_run_has_no_other_keys(results_dir):
    from sam_bench.cli import main

    words = ["dataset=digits", "model=fastnet_tiny", "optimizer=sam", "train.max_steps=2", "device=cpu"]
    assert main(["run", *words]) == 0
    assert main(["run", *words, "base.lr=1e30"]) == 1
    kinds = {"finished": api.Finished, "failed": api.Failed}
    records = [json.loads(path.read_bytes()) for path in results_dir.glob("runs/*/record.json")]
    assert {record["status"] for record in records} == set(kinds)
    for record in records:
        assert list(unknown(record, kinds[record["status"]])) == []
