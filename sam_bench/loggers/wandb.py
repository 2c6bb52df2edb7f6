"""Mirrors runs to Weights & Biases: offline unless asked otherwise, and without delaying a run.

W&B runs in its own process and reads from a pipe on which the run never waits. So importing, connecting, hanging or
crashing of W&B costs the run at most `patience` seconds at its end. `sam-bench wandb sync` can send the rest again from
the records.

wandb's own service is no substitute, because `wandb.init` in the process of the run waits for it. With a server that
accepts connections and never answers, it blocked the run for 32 to 36 s before it raised (n = 3, wandb 0.31.0, a busy
Intel Xeon with 2 cores, 2026-11-21); offline it took 9 to 18 s there. Sending only the final record would show no live
curve.
"""

import csv
import hashlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from sam_bench.api import Record
from sam_bench.errors import UsageError
from sam_bench.options.logger import Wandb
from sam_bench.options.rules import check
from sam_bench.store import places
from sam_bench.store.disk import atomic_write, need_real_folder, read_file
from sam_bench.store.index import curve

SUMMARY = ("best_epoch", "steps", "grad_evals", "grad_evals_per_step", "sam_fraction", "skipped_steps",
           "train_seconds", "eval_seconds", "setup_seconds", "throughput", "peak_memory_bytes",
           "parameters")  # fmt: skip
DIGEST = "record_sha256"  # a key in the summary of a run that was sent completely
NAME = re.compile(r"[A-Za-z0-9_.+-]+")  # of a W&B run of ours
BACKLOG = 2**24  # bytes that may wait if W&B does not read; beyond that, mirroring stops


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What W&B shows of a finished record: its metrics, its cost, and the digest that shows that it is complete."""
    return {**record["metrics"], **{name: record.get(name) for name in SUMMARY}, DIGEST: digest(record)}


def digest(record: Mapping[str, Any]) -> str:
    """Checksum of a record, independent of its folder."""
    content = {key: value for key, value in record.items() if key != "path"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def init_options(head: Mapping[str, Any], project: str, mode: str, entity: str | None, folder: Path) -> dict[str, Any]:
    """Arguments of wandb.init: one run per cell, found again by its run id, grouped by experiment and method."""
    labels = head["labels"]
    return {
        "project": project, "entity": entity, "mode": mode, "dir": str(folder), "id": head["run_id"],
        "name": head["run_id"], "resume": "allow", "reinit": "create_new",
        "group": "/".join(str(part) for part in (head.get("experiment") or "runs", labels["optimizer"])),
        "job_type": labels["optimizer"],
        "tags": [str(labels[key]) for key in ("dataset", "model", "base", "optimizer")],
        "config": {**head["config"], "labels": dict(labels), "provenance": head.get("provenance"),
                   "data": head.get("data")},
    }  # fmt: skip


class WandbLogger:
    """One W&B run per cell; `mode` is offline (no account needed), online or disabled, `patience` in seconds."""

    def __init__(self, project: str, mode: str = "offline", entity: str | None = None, patience: float = 1.0):
        check(Wandb, {"mode": mode, "patience": patience}, "logger")
        self.project, self.mode, self.entity, self.patience = project, mode, entity, patience
        self._process: Any = None  # a Popen with pipes
        self._complaints: Any = None
        self._waiting = b""
        self._broken = ""

    def start(self, head: Mapping[str, Any]) -> None:
        """Open the W&B run, or continue it."""
        folder = places.results_dir()
        package = str(Path(__file__).parents[2])
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sam_bench.loggers.wandb"], stdin=subprocess.PIPE, env=environment,
                stdout=subprocess.PIPE, stderr=self._complaints, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._broken = f"W&B did not start: {error}"
            return
        os.set_blocking(self._process.stdin.fileno(), False)
        self._send("init", init_options(head, self.project, self.mode, self.entity, folder))

    def log(self, row: Mapping[str, Any]) -> None:
        """Log a line of the curve at its training step."""
        self._send("log", dict(row))

    def finish(self, record: Mapping[str, Any]) -> None:
        """Log the summary and close the run; says how to send it again if W&B did not keep up."""
        self._send("finish", summary(record))
        deadline = time.monotonic() + self.patience
        while self._waiting and not self._broken and time.monotonic() < deadline:
            time.sleep(0.01)
            self._flush()
        if self._process is not None and not self._broken:
            self._process.stdin.close()
            self._wait(deadline)
        if self._broken:
            warnings.warn(f"{self._broken}; the record is complete, send it with: sam-bench wandb sync", stacklevel=2)

    def _send(self, what: str, content: Mapping[str, Any]) -> None:
        if self._process is None or self._broken:
            return
        self._waiting += json.dumps([what, content], default=str).encode() + b"\n"
        self._flush()
        if len(self._waiting) > BACKLOG:
            self._broken = "W&B does not read"

    def _flush(self) -> None:
        """Write as much as the pipe takes now."""
        try:
            while self._waiting:
                written = os.write(self._process.stdin.fileno(), self._waiting)
                self._waiting = self._waiting[written:]
        except BlockingIOError:
            pass
        except OSError:
            self._broken = f"W&B failed: {self._last_complaint()}"

    def _wait(self, deadline: float) -> None:
        """Wait for the message that the run is written. Shutting W&B down takes longer; do not wait for it."""
        answered, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not answered:
            self._broken = f"W&B took longer than {self.patience:g} s (it may still end by itself)"
        elif not os.read(self._process.stdout.fileno(), 64):
            self._broken = f"W&B failed: {self._last_complaint()}"

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a message"


def mirror(lines: Iterable[str], answer: BinaryIO) -> None:
    """The process of W&B: open the run, log, finish. A run without a `finish` was interrupted."""
    import wandb

    run: Any = None
    status = 1
    for line in lines:
        what, content = json.loads(line)
        if what == "init":
            folder = Path(content["dir"])
            folder.mkdir(parents=True, exist_ok=True)
            need_real_folder(folder / "wandb")  # in a results folder from somebody else it may be a link to anywhere
            run = wandb.init(**content, settings=_settings(wandb))
        elif what == "log":
            run.log(content, step=content["step"])
        elif what == "finish":
            run.summary.update(content)
            status = 0
    if run is not None:
        _end(run, status)
        answer.write(b"written")
        answer.flush()


def sync(experiments: Mapping[str, Sequence[Record]], *, project: str = "sam_bench", entity: str | None = None,
         mode: str = "online", files: Mapping[str, Sequence[Path]] | None = None) -> list[str]:  # fmt: skip
    """Send the finished records of these experiments, {name: loaded records}; returns the W&B runs that were sent.

    Uses only the records, not earlier offline files. Runs that W&B already has completely are not sent again; in mode
    offline, runs whose complete offline files still exist. `files` (tables, figures) are one artifact per experiment,
    in a run of its own. Raises UsageError if W&B cannot be reached.
    """
    import wandb

    folder = places.results_dir()
    folder.mkdir(parents=True, exist_ok=True)
    need_real_folder(folder / "wandb")
    ledger = folder / "wandb" / f"sent_{mode}.json"
    options = {"project": project, "entity": entity, "mode": mode, "dir": str(folder)}
    try:
        known, sent = _remote(wandb, project, entity) if mode == "online" else _ledger(ledger), []
        for name, content, send in _parcels(wandb, experiments, files or {}, options):
            if known.get(name) != content:
                send()
                sent.append(name)
                known[name] = content
                if mode != "online":
                    atomic_write(ledger, json.dumps(known, indent=1).encode())
    except wandb.Error as error:
        raise UsageError(
            f"W&B: {error}. Log in with `wandb login`, or write offline files with mode=offline."
        ) from None
    return sent


def _parcels(wandb: Any, experiments: Mapping[str, Sequence[Record]], files: Mapping[str, Sequence[Path]],
             options: Mapping[str, Any]) -> Iterable[tuple[str, str, Callable[[], None]]]:  # fmt: skip
    """(W&B run, digest of its content, what sends it) of every finished record and of every experiment's files."""
    where = (options["project"], options["mode"], options["entity"], Path(options["dir"]))
    for record in {r["run_id"]: r for records in experiments.values() for r in records}.values():
        if record["status"] == "finished":
            yield record["run_id"], digest(record), partial(_send_record, wandb, record, init_options(record, *where))
    for name, chosen in files.items():
        contents = {Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in chosen}
        content = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
        yield f"{name}-report", content, partial(_send_files, wandb, name, chosen, content, options)


def _settings(wandb: Any) -> Any:
    """No output and no data about the machine: no host, user, path, command, git remote or list of packages."""
    return wandb.Settings(
        silent=True, console="off", init_timeout=30, x_disable_stats=True, x_disable_meta=True,
        x_disable_machine_info=True, x_save_requirements=False, disable_git=True, disable_code=True,
        disable_job_creation=True, host="", username="", program="", program_relpath="", program_abspath="",
    )  # fmt: skip


def _end(run: Any, status: int = 0) -> None:
    """Close a W&B run and delete W&B's own logs of it, which are full of paths; after an error they stay."""
    logs = Path(run.dir).parent / "logs"
    run.finish(exit_code=status)
    for name in ("debug.log", "debug-internal.log", "debug-core.log"):
        (logs / name).unlink(missing_ok=True)


def _remote(wandb: Any, project: str, entity: str | None) -> dict[str, str]:
    """Digests of the runs that W&B has; empty if the project does not exist yet."""
    api = wandb.Api(timeout=30)
    path = f"{entity or api.default_entity}/{project}"
    try:
        return {run.id: run.summary.get(DIGEST) for run in api.runs(path, per_page=500)}
    except ValueError:  # W&B raises this for a project that it cannot find
        return {}


def _ledger(path: Path) -> dict[str, str]:
    """Digests of the runs whose complete offline files still exist."""
    try:
        known = json.loads(read_file(path, depth=2))
    except (OSError, ValueError, RecursionError):
        return {}
    kept = known.items() if isinstance(known, dict) else ()
    return {name: told for name, told in kept if NAME.fullmatch(name) and any(path.parent.glob(f"*-{name}/*.wandb"))}


def _send_record(wandb: Any, record: Record, options: Mapping[str, Any]) -> None:
    """Send one run from its record. W&B drops steps that it already has; the summary replaces the old one."""
    run = wandb.init(**options, settings=_settings(wandb))
    try:
        for row in curve(record):
            known = {key: value for key, value in row.items() if value == value}
            run.log(known, step=int(row["step"]))
        run.summary.update(summary(record))
    finally:
        _end(run)


def _send_files(wandb: Any, name: str, files: Sequence[Path], content: str, options: Mapping[str, Any]) -> None:
    """Send the tables and figures of an experiment as one artifact; the same files give the same version."""
    run = wandb.init(**options, id=f"{name}-report", name=f"{name}-report", resume="allow", reinit="create_new",
                     group=name, job_type="report", settings=_settings(wandb))  # fmt: skip
    try:
        artifact = wandb.Artifact(f"{name}-report", type="report")
        for path in map(Path, files):
            artifact.add_file(str(path), name=path.name)
            if path.suffix == ".csv":
                rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
                run.log({path.stem: wandb.Table(columns=rows[0], data=rows[1:])})
        run.log_artifact(artifact)
        run.summary[DIGEST] = content
    finally:
        _end(run)


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # anything that is printed goes to stderr, as a complaint
        mirror(sys.stdin, answer)
