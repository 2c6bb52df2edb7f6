"""Checkpoints with a checksum: written under another name, synced and renamed; the previous one is kept."""

import contextlib
import hashlib
import io
import os
import uuid
import warnings
from pathlib import Path
from typing import Any

import torch

from sam_bench.errors import UsageError
from sam_bench.store.disk import WEIGHTS_LIMIT, advice, open_file, sync_folder

MAGIC = b"sam_bench checkpoint 1 "
NAMES = ("checkpoint.pt", "checkpoint.previous.pt")


class BadCheckpoint(Exception):
    """A file that is torn, damaged, or not a checkpoint of this program."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) as the newest checkpoint of `folder`; the previous one stays.

    Raises UsageError if the disk is full or not writable; both checkpoints are then unchanged.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    newest, previous = (folder / name for name in NAMES)
    temporary = folder / f".{NAMES[0]}.{uuid.uuid4().hex}"
    with advice(newest):
        try:
            with open(temporary, "xb") as file:
                file.write(MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            if newest.exists():
                os.replace(newest, previous)
            os.replace(temporary, newest)
            sync_folder(folder)
        except BaseException:
            with contextlib.suppress(OSError):  # half a checkpoint would keep a full disk full
                temporary.unlink(missing_ok=True)
            raise


def read(path: Path) -> dict[str, Any]:
    """The state in one file; raises BadCheckpoint if it is not exactly what `save` wrote, UsageError, OSError."""
    with open_file(path, WEIGHTS_LIMIT) as file:
        head = file.read(len(MAGIC) + 65)
        payload = file.read()
    if not head.startswith(MAGIC):
        raise BadCheckpoint(f"{path.name} is not a sam_bench checkpoint")
    if hashlib.sha256(payload).hexdigest().encode() != head[len(MAGIC) : -1]:
        raise BadCheckpoint(f"{path.name} is torn or damaged (its checksum differs)")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler may raise any exception for a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadCheckpoint(f"{path.name} holds more than tensors and plain values: {reason}") from None
    if not isinstance(state, dict):
        raise BadCheckpoint(f"{path.name} holds no state of a run")
    return state


def load(folder: Path, run_id: str) -> dict[str, Any] | None:
    """The newest usable checkpoint of `run_id`, or None; prints which files were skipped and why."""
    for name in NAMES:
        try:
            state = read(folder / name)
        except FileNotFoundError:
            continue
        except (BadCheckpoint, UsageError, OSError) as error:
            warnings.warn(f"{error}; falling back to the one before it", stacklevel=2)
            continue
        if state.get("run_id") != run_id:
            theirs = repr(state.get("run_id"))[:200]  # repr makes one line of anything
            warnings.warn(f"{name} belongs to run {theirs}, not to {run_id!r}: ignored", stacklevel=2)
            continue
        return state
    return None
