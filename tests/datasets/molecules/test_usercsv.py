"""A csv of the user's own: what it needs, what it records, what it refuses before it reads a molecule."""

import base64
import getpass
import gzip
import re
import socket
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sam_bench.config import compose, files
from sam_bench.datasets.molecules import assemble, usercsv
from sam_bench.errors import UsageError
from sam_bench.results.report.page import page
from sam_bench.results.verify import verify
from sam_bench.store import index
from sam_bench.store.anonymous import overrides_without_folders
from sam_bench.training.life import Stopped, execute

ROWS = "id,SMILES,y1,y2\n" + "".join(f"{n},{'C' * n}O,{n / 2},{n % 2}\n" for n in range(1, 21))


@pytest.fixture
def load(tmp_path):
    """Load a csv with the defaults of the YAML and some changes."""
    (tmp_path / "my.csv").write_text(ROWS)
    keys = OmegaConf.to_container(OmegaConf.load(files.config_dir() / "dataset" / "csv.yaml"), resolve=True)
    assert keys.pop("_target_") == "sam_bench.datasets.usercsv.load"

    def load(**changes):
        changes = {"path": str(tmp_path / "my.csv"), "smiles": "SMILES", "split": "random", **changes}
        return usercsv.load(**{**keys, **changes}, data_dir=tmp_path, split_seed=0)

    return load


def test_two_regression_targets(load):
    task = load(targets=["y1", "y2"])
    assert (task.num_outputs, task.kind, task.metric, task.target_names) == (2, "regression", "rmse", ("y1", "y2"))
    assert [len(index) for index in task.splits.values()] == [16, 2, 2]
    assert task.verified  # its content is its identity: there is no published file that it could differ from
    assert "user's own" in task.notes[0]


def test_one_binary_target_by_its_name_alone(load):
    task = load(targets="y2", kind="binary")
    assert (task.num_outputs, task.metric) == (1, "roc_auc")


def test_columns_whose_names_are_numbers(load, tmp_path):
    """Numbers of assays, which Hydra hands over as integers."""
    (tmp_path / "assays.csv").write_text("7,588342,588343\n" + "".join(f"{'C' * n},{n},{-n}\n" for n in range(1, 21)))
    own = {"path": str(tmp_path / "assays.csv"), "smiles": 7}
    assert load(**own, targets=[588342, 588343]).target_names == ("588342", "588343")
    assert load(**own, targets=588343).target_names == ("588343",)
    with pytest.raises(UsageError, match=r"no column '588344'\. Did you mean '58834[23]'"):
        load(**own, targets=[588344])


def test_a_given_checksum_proves_the_data_or_refuses_them(load):
    digest = load(targets=["y1"]).data_sha256
    assert load(targets=["y1"], sha256=digest).verified
    with pytest.raises(UsageError, match="other data"):
        load(targets=["y2"], sha256=digest)


WRONG = {
    "no path": ({"path": None}, "dataset.path=my.csv"),
    "no file": ({"path": "/nowhere/my.csv"}, "no file /nowhere/my.csv"),
    "wrong column": ({"targets": ["Y1"]}, "Did you mean 'y1'"),
    "wrong smiles": ({"smiles": "smiles", "targets": ["y1"]}, "Did you mean 'SMILES'"),
    "label is text": ({"targets": ["SMILES"], "smiles": "id"}, "line 2: 'CO' in column 'SMILES' is not a number"),
    "not classes": ({"targets": ["y1"], "kind": "binary"}, "neither 0 nor 1"),
    "twice": ({"targets": ["y1", "y1"]}, "twice"),
    "smiles as label": ({"targets": ["SMILES"]}, "column of the SMILES"),
    "kind": ({"kind": "ranking"}, "one of regression, binary"),
    "metric": ({"targets": ["y1"], "metric": "roc_auc"}, "no metric of regression"),
    "split": ({"targets": ["y1"], "split": "stratified"}, "dataset.split=stratified is not usable"),
    "official": ({"targets": ["y1"], "split": "official"}, "no official split"),
    "fractions": ({"targets": ["y1"], "fractions": [0.8, 0.2]}, "add up to 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_mistake_is_answered_before_a_molecule_is_read(case, load, monkeypatch):
    monkeypatch.setattr(assemble, "featurize", None)
    changes, message = WRONG[case]
    with pytest.raises(UsageError, match=message):
        load(**changes)


def test_not_a_smiles_in_the_column(load):
    with pytest.raises(UsageError, match="none of the 20 SMILES"):
        load(smiles="id", targets=["y1"])


def test_too_few_molecules_for_three_splits(load, tmp_path):
    (tmp_path / "two.csv").write_text("s,y\nC,1\nCC,2\n")
    with pytest.raises(UsageError, match="nothing is left"):
        load(path=str(tmp_path / "two.csv"), smiles=None)


def test_a_run_is_known_by_the_content_of_the_file_not_by_its_place(tmp_path):
    def cell(path, *more):
        return compose.compose_specs(["model=gine", "dataset=csv", f"dataset.path={path}", *more])[0]

    here, there = tmp_path / "a.csv", tmp_path / "b.csv"
    for file in (here, there):
        file.write_text(ROWS)
    first = cell(here)
    assert cell(there).run_id == first.run_id
    assert first.config["dataset"]["file_sha256"] == cell(there).config["dataset"]["file_sha256"] is not None
    there.write_text(ROWS.replace("0.5", "0.6"))
    assert cell(there).run_id != first.run_id
    assert cell(here, "dataset.kind=binary").run_id != first.run_id
    with pytest.raises(UsageError, match=r"b\.csv has changed"):
        cell(there, f"dataset.file_sha256={first.config['dataset']['file_sha256']}")
    with pytest.raises(UsageError, match="no file"):
        cell(tmp_path / "c.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        cell(tmp_path)
    with pytest.raises(UsageError, match=r"no file .*123"):
        cell(123)


def test_a_file_that_changes_after_the_plan_is_refused(load):
    with pytest.raises(UsageError, match="has changed since"):
        load(targets=["y1"], file_sha256="0" * 64)


def test_one_target_is_the_same_run_with_and_without_brackets(tmp_path):
    (tmp_path / "my.csv").write_text(ROWS)

    def run_id(targets):
        words = ["model=gine", "dataset=csv", f"dataset.path={tmp_path}/my.csv", f"dataset.targets={targets}"]
        return compose.compose_specs(words)[0].run_id

    assert run_id("y1") == run_id("[y1]") != run_id("[y1,y2]")
    assert run_id("588342") == run_id("[588342]")


def words_of(page_text: str) -> str:
    """A page, with what it holds compressed."""
    data = re.search(r'id="data">([^<]*)<', page_text)[1]
    return page_text + gzip.decompress(base64.b64decode(data)).decode()


def test_nothing_private_is_in_the_record_or_on_the_page(tmp_path, monkeypatch):
    """Neither the folder of the file nor a SMILES that could not be parsed; and such a run resumes and verifies."""
    folder = tmp_path / "project secret"
    folder.mkdir()
    (folder / "my.csv").write_text(ROWS + "21,unfit-for-print,3,1\n")
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path / "data"))
    words = ["model=grover_small", "dataset=csv", f"dataset.path='{folder}/my.csv'", "dataset.smiles=SMILES",
             "dataset.targets=y1", "dataset.split=random", "train.epochs=2", "device=cpu"]  # fmt: skip
    (cell,) = compose.compose_specs(words)
    with pytest.raises(Stopped):
        execute(cell, tmp_path / "results", stop=lambda: True)
    record = execute(cell, tmp_path / "results")
    assert record["provenance"]["resumed"] == 1
    assert record["config"]["dataset"]["path"] == "my.csv"
    assert "dataset.path='my.csv'" in record["overrides"]
    assert "line 22" in " ".join(record["data"]["notes"])
    (loaded,) = index.load(tmp_path / "results")
    assert not [finding for finding in verify([loaded]) if finding.level == "fail"]
    written = {path.name: path.read_bytes() for path in (tmp_path / "results" / "runs").rglob("*") if path.is_file()}
    assert {"record.json", "best.pt"} <= set(written)
    written["page"] = words_of(page({"mine": [loaded]})).encode()
    private = ["secret", "unfit-for-print", str(tmp_path), str(Path.home()), socket.gethostname(), getpass.getuser()]
    for name, content in written.items():
        assert [word for word in private if len(word) > 4 and word.encode() in content] == [], name


def test_the_words_of_a_command_line_keep_all_but_the_folder():
    words = ["seed=1", "dataset.path=/srv/me/a.csv", '+dataset.path="/srv/me/b c.csv"', "dataset.path=d.csv"]
    expected = ["seed=1", "dataset.path=a.csv", '+dataset.path="b c.csv"', "dataset.path=d.csv"]
    assert overrides_without_folders(words) == expected
