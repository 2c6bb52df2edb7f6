"""Loggers mirror runs: what they wrote is read back, and whatever they do, a run loses at most a second."""

import json
import shutil
import socket
import struct
import sys
import time
import types
import warnings

import pytest
import yaml
from support import ROOT
from support.fabricated import failed, grid, make_curve, make_record, write

from sam_bench.cli import main
from sam_bench.config import files
from sam_bench.errors import UsageError
from sam_bench.loggers.none import NoLogger
from sam_bench.loggers.wandb import WandbLogger, digest, sync
from sam_bench.store import index, places

PATIENT = 200.0  # a busy machine takes long to import wandb


def scan(path):
    """The messages in a .wandb file: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if kind == 0:
            break
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            message = wandb_internal_pb2.Record()
            message.ParseFromString(whole)
            whole = b""
            yield message


def read_back(folder):
    """{run id: (run message, history rows, summary, exit code)} of all offline runs below a folder."""
    found = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        run, rows, summary, status = None, [], {}, None
        for message in scan(path):
            kind = message.WhichOneof("record_type")
            if kind == "run":
                run = message.run
            elif kind == "history":
                rows.append({key(item): json.loads(item.value_json) for item in message.history.item})
            elif kind == "summary":
                summary |= {key(item): json.loads(item.value_json) for item in message.summary.update}
            elif kind == "exit":
                status = message.exit.exit_code
        found[run.run_id] = (run, rows, summary, status)
    return found


def key(item):
    return item.key or "/".join(item.nested_key)


def mirrored(logger, record, rows=None):
    logger.start({name: value for name, value in record.items() if name not in ("metrics", "status")})
    for row in make_curve(record) if rows is None else rows:
        logger.log(row)
    return logger


def test_wandb_offline_holds_config_curve_and_summary_one_run_per_cell(results_dir):
    records = [make_record("sam", seed, epochs=3) for seed in range(2)]
    loggers = [mirrored(WandbLogger("p", patience=PATIENT), record) for record in records]
    for logger, record in zip(loggers, records, strict=True):
        logger.finish(record)
    found = read_back(results_dir)
    assert set(found) == {record["run_id"] for record in records}
    for record in records:
        run, rows, summary, status = found[record["run_id"]]
        assert (run.project, run.run_group, run.job_type, status) == ("p", "fabricated/sam", "sam", 0)
        assert set(run.tags) == {"bbbp", "grover", "adam", "sam"}
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["optimizer"]["rho"] == 0.05
        assert config["labels"]["seed"] == record["labels"]["seed"]
        assert config["provenance"]["commit"] == record["provenance"]["commit"]
        assert [row["_step"] for row in rows] == [row["step"] for row in make_curve(record)]
        assert rows[-1]["valid/roc_auc"] == pytest.approx(record["metrics"]["valid/roc_auc"])
        assert summary["test/roc_auc"] == pytest.approx(record["metrics"]["test/roc_auc"])
        assert summary["record_sha256"] == digest(record)


def test_wandb_files_hold_nothing_of_the_machine(results_dir, tmp_path, monkeypatch):
    """They are made to be sent: no host, no user, no path, no git remote."""
    home = tmp_path / "home-of-somebody"
    home.mkdir()
    for name, value in {"HOME": str(home), "USER": "somebody-here", "LOGNAME": "somebody-here"}.items():
        monkeypatch.setenv(name, value)
    record = make_record("sam", epochs=2)
    mirrored(WandbLogger("p", patience=PATIENT), record).finish(record)
    files = {path: path.read_bytes() for path in results_dir.rglob("*") if path.is_file()}
    assert any(path.suffix == ".wandb" for path in files)
    private = (socket.gethostname(), "somebody-here", str(tmp_path), str(ROOT), sys.prefix, "github.com")
    found = [(str(path), word) for path, content in files.items() for word in private if word.encode() in content]
    assert found == []


def test_a_wandb_folder_that_is_a_link_is_not_written(results_dir, tmp_path, fake):
    (tmp_path / "elsewhere").mkdir()
    results_dir.mkdir()
    (results_dir / "wandb").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="link"):
        sync({"one": [make_record()]}, mode="offline")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_wandb_of_an_interrupted_run_is_closed_and_the_next_one_has_its_id(results_dir):
    record = make_record()
    logger = mirrored(WandbLogger("p"), record, make_curve(record)[:2])
    process = logger._process
    logger._process.stdin.close()  # what the end of the run's process does
    process.wait(PATIENT)
    ((name, (_, rows, _, status)),) = read_back(results_dir).items()
    assert (name, len(rows), status) == (record["run_id"], 2, 1)


HOSTILE = {
    "hangs": "import time\nSettings = dict\ndef init(**_): time.sleep(600)\n",
    "raises": "Settings = dict\ndef init(**_): raise RuntimeError('no such entity')\n",
    "is broken": "raise ImportError('cannot import wandb')\n",
    "dies": "import os\nos.kill(os.getpid(), 9)\n",
    "talks": "print('hello', flush=True)\nimport time\ntime.sleep(600)\n",
}


@pytest.mark.parametrize("how", HOSTILE)
def test_whatever_wandb_does_a_run_loses_at_most_a_second(results_dir, tmp_path, monkeypatch, how):
    (tmp_path / "wandb.py").write_text(HOSTILE[how])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    record, logger = make_record(), WandbLogger("p")
    many = [{"step": step, "text": "x" * 1000} for step in range(1000)]  # more than a pipe holds
    begin = time.monotonic()
    mirrored(logger, record, many)
    with pytest.warns(UserWarning, match="sam-bench wandb sync"):
        logger.finish(record)
    process = logger._process
    try:
        assert time.monotonic() - begin < 1.0 + 2.0  # a busy machine may be late in waking us
    finally:
        process.kill()
        process.wait()


SLOW = """
import time
time.sleep(0.3)
Settings = dict
class Run:
    summary = {}
    def log(self, row, step): time.sleep(5)
    def finish(self, exit_code=0): time.sleep(600)
def init(**_):
    time.sleep(0.3)
    return Run()
"""


class Timed:
    """A logger, and the seconds that a run spends in it."""

    def __init__(self, logger):
        self.logger, self.seconds = logger, 0.0

    def __getattr__(self, name):
        def call(*arguments):
            begin = time.monotonic()
            try:
                return getattr(self.logger, name)(*arguments)
            finally:
                self.seconds += time.monotonic() - begin

        return call


@pytest.mark.parametrize("how", ["slow", "hangs", "dies"])
def test_a_whole_run_with_a_bad_wandb_has_the_same_result_a_second_later(tmp_path, monkeypatch, how):
    from sam_bench.config import build, compose
    from sam_bench.training import life
    from sam_bench.training.life import execute

    (tmp_path / "wandb.py").write_text({**HOSTILE, "slow": SLOW}[how])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ("dataset=digits", "model=fastnet_tiny", "optimizer=sam", "train.epochs=2", "train.batch_size=256")
    records, loggers = [], []
    make = build.build_logger
    monkeypatch.setattr(life, "build_logger", lambda config: loggers.append(Timed(make(config))) or loggers[-1])
    for name in ("none", "wandb"):
        monkeypatch.setenv("SAM_BENCH_RESULTS", str(tmp_path / name))
        (cell,) = compose.compose_specs([*words, f"logger={name}"])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            records.append(execute(cell, tmp_path / name))
    process = loggers[1].logger._process
    process.kill()
    process.wait()
    assert loggers[1].seconds < 1.0 + 1.0  # a busy machine may be late in waking us
    assert any("sam-bench wandb sync" in str(warning.message) for warning in told)
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["files"]["best.pt"] == records[1]["files"]["best.pt"]


def test_a_wandb_that_never_reads_is_given_up(results_dir, tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("sam_bench.loggers.wandb.BACKLOG", 10_000)
    logger = mirrored(WandbLogger("p"), make_record(), [{"step": i, "text": "x" * 1000} for i in range(200)])
    assert len(logger._waiting) < 20_000
    logger._process.kill()
    logger._process.wait()
    with pytest.warns(UserWarning, match="does not read"):
        logger.finish(make_record())


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="offline, online, disabled"):
        WandbLogger("p", mode="ofline")


class FakeWandb(types.ModuleType):
    """A W&B server in memory: runs by id, steps only go forward, a summary is replaced key by key."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.server, self.artifacts, self.tables, self.inits = {}, {}, {}, []
        fake = self

        class Run:
            def __init__(self, name):
                self.id, self.dir = name, f"{name}/files"
                self.steps, self.summary = fake.server.setdefault(name, ([], {}))

            def log(self, row, step=None):
                fake.tables |= {key: value for key, value in row.items() if isinstance(value, dict)}
                if step is not None and step > max(self.steps, default=-1):
                    self.steps.append(step)

            def log_artifact(self, artifact):
                fake.artifacts[artifact.name] = artifact.files

            def finish(self, exit_code=0):
                pass

        class Artifact:
            def __init__(self, name, type):
                self.name, self.files = name, []

            def add_file(self, path, name):
                self.files.append(name)

        class Api:
            default_entity = "me"

            def __init__(self, timeout):
                pass

            def runs(self, path, per_page):
                if not fake.server:
                    raise ValueError(f"could not find project {path}")
                return [Run(name) for name in fake.server]

        def init(**options):
            fake.inits.append(options)
            return Run(options["id"])

        self.Settings, self.Artifact, self.Api, self.init, self.Table = dict, Artifact, Api, init, dict


@pytest.fixture
def fake(monkeypatch):
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def stored(results_dir, records):
    for record in records:
        write(results_dir, record)
    return index.load(results_dir, [record["run_id"] for record in records])


def test_sync_sends_finished_records_once(results_dir, fake):
    records = stored(results_dir, [*grid(("erm", "sam"), seeds=range(2)), failed(make_record("vsam"))])
    names = [record["run_id"] for record in records[:4]]
    assert sync({"one": records, "two": records[:1]}) == names
    assert sync({"one": records}) == []
    assert [options["resume"] for options in fake.inits] == ["allow"] * 4
    steps, summary = fake.server[names[0]]
    assert steps == [row["step"] for row in make_curve(records[0])]
    assert summary["record_sha256"] == digest(records[0])


def test_sync_completes_what_was_sent_in_part_and_doubles_nothing(results_dir, fake):
    records = stored(results_dir, [make_record("sam")])
    steps = [row["step"] for row in make_curve(records[0])]
    fake.server[records[0]["run_id"]] = (steps[:2], {"test/roc_auc": 0.1})
    assert sync({"one": records}) == [records[0]["run_id"]]
    held, summary = fake.server[records[0]["run_id"]]
    assert held == steps
    assert summary["test/roc_auc"] == records[0]["metrics"]["test/roc_auc"]


def test_sync_sends_tables_and_figures_once_as_an_artifact(results_dir, fake, tmp_path):
    files = {"one": [tmp_path / "one.csv", tmp_path / "one_ranks.png"]}
    files["one"][0].write_text("a,b\n1,2\n")
    files["one"][1].write_bytes(b"picture")
    assert sync({"one": []}, files=files) == ["one-report"]
    assert fake.artifacts == {"one-report": ["one.csv", "one_ranks.png"]}
    assert fake.tables == {"one": {"columns": ["a", "b"], "data": [["1", "2"]]}}
    assert sync({"one": []}, files=files) == []
    files["one"][1].write_bytes(b"another picture")
    assert sync({"one": []}, files=files) == ["one-report"]


def test_sync_without_a_server_says_what_to_do(results_dir, fake, monkeypatch):
    def refuse(**_):
        raise fake.Error("not logged in")

    monkeypatch.setattr(fake, "Api", refuse)
    with pytest.raises(UsageError, match="wandb login"):
        sync({"one": []})


def test_sync_offline_writes_each_record_once_from_the_record_alone(results_dir):
    (record,) = stored(results_dir, [make_record("sam", epochs=3)])
    assert sync({"one": [record]}, mode="offline") == [record["run_id"]]
    assert sync({"one": [record]}, mode="offline") == []
    ((name, (_, rows, summary, status)),) = read_back(results_dir).items()
    assert (name, len(rows), status) == (record["run_id"], 3, 0)
    assert summary["grad_evals"] == record["grad_evals"]


def test_sync_offline_writes_again_what_was_deleted_and_whatever_it_finds(results_dir):
    records = stored(results_dir, grid(("erm", "sam"), seeds=[0]))
    sync({"one": records}, mode="offline")
    (folder,) = (results_dir / "wandb").glob("offline-run-*-" + records[1]["run_id"])
    shutil.rmtree(folder)
    assert sync({"one": records}, mode="offline") == [records[1]["run_id"]]
    (results_dir / "wandb" / "sent_offline.json").write_text("{torn")
    assert len(sync({"one": records}, mode="offline")) == 2
    assert set(read_back(results_dir)) == {record["run_id"] for record in records}


@pytest.mark.slow
def test_the_command_sends_runs_tables_and_figures(results_dir, monkeypatch, capsys):
    source = ROOT / "results" / "published" / "runs"
    for folder in [*source.glob("chembl*-erm-seed0-*"), *source.glob("chembl*-sam-seed0-*")]:
        shutil.copytree(folder, results_dir / "runs" / folder.name)
    assert main(["wandb", "sync", "quickstart", "--mode", "offline"]) == 0
    assert "3 W&B runs sent" in capsys.readouterr().out
    (path,) = (results_dir / "wandb").glob("*-quickstart-report/*.wandb")
    artifacts = [message.artifact for message in scan(path) if message.WhichOneof("record_type") == "artifact"]
    (report,) = [artifact for artifact in artifacts if artifact.type == "report"]
    held = {entry.path for entry in report.manifest.contents}
    assert {"quickstart.csv", "quickstart.md", "quickstart.tex", "quickstart.html"} <= held
    assert {"quickstart_learning_curves.pdf", "quickstart_metric_against_cost.png"} <= held
    assert main(["wandb", "sync", "quickstart", "--mode", "offline"]) == 0
    assert "0 W&B runs sent" in capsys.readouterr().out


def test_a_multirun_has_one_wandb_run_per_cell(results_dir):
    cells = ["optimizer=erm,sam", "seed=0", "train.epochs=1", "train.max_steps=2", "device=cpu"]
    options = ["dataset=digits", "model=fastnet_tiny", "logger=wandb", f"logger.patience={PATIENT}"]
    assert main(["run", "-m", *options, *cells]) == 0
    records = {record["run_id"]: record for record in index.load(results_dir)}
    found = read_back(results_dir)
    assert len(records) == 2
    assert found.keys() == records.keys()
    for name, (_, rows, summary, status) in found.items():
        assert (len(rows), status, summary["record_sha256"]) == (1, 0, digest(records[name]))


def test_tensorboard_holds_curve_and_final_metrics(results_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from sam_bench.loggers.tensorboard import TensorBoardLogger

    record = make_record("sam", epochs=3)
    mirrored(TensorBoardLogger(), record).finish(record)
    events = EventAccumulator(str(places.results_dir() / "tensorboard" / record["run_id"])).Reload()
    curve = events.Scalars("valid/roc_auc")
    assert [event.step for event in curve] == [row["step"] for row in make_curve(record)]
    assert curve[-1].value == pytest.approx(record["metrics"]["valid/roc_auc"])
    assert events.Scalars("final/test/roc_auc")[0].value == pytest.approx(record["metrics"]["test/roc_auc"])


def test_a_tensorboard_that_breaks_costs_only_a_warning(results_dir):
    from sam_bench.loggers.tensorboard import TensorBoardLogger

    results_dir.parent.mkdir(exist_ok=True)
    results_dir.touch()  # a file where the folder should be
    with pytest.warns(UserWarning, match="record is complete"):
        mirrored(TensorBoardLogger(), make_record()).finish(make_record())


def test_no_logger_says_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mirrored(NoLogger(), make_record()).finish(make_record())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((files.config_dir() / "logger").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_logger_config_makes_a_logger(path):
    options = yaml.safe_load(path.read_text())
    module, _, name = options.pop("_target_").rpartition(".")
    logger = getattr(__import__(module, fromlist=[name]), name)(**options)
    assert all(callable(getattr(logger, method)) for method in ("start", "log", "finish"))
