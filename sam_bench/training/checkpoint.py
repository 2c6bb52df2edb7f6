"""Checkpoints that are whole or refused: written aside, synced, renamed, checksummed, the previous one kept."""

import contextlib
import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from sam_bench.store.disk import advice, sync_folder

MAGIC = b"sam_bench checkpoint 1 "
NAMES = ("checkpoint.pt", "checkpoint.previous.pt")


class BadCheckpoint(Exception):
    """A file that is torn, damaged, or not a checkpoint of this program."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) as the newest checkpoint of `folder`; the one before stays.

    Raises UsageError when the disk is full or may not be written; both checkpoints are then what they were.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    newest, previous = (folder / name for name in NAMES)
    temporary = folder / f"{NAMES[0]}.{os.getpid()}.tmp"
    with advice(newest):
        try:
            with open(temporary, "wb") as file:
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


def read(path: Path) -> dict:
    """The state in one file; raises BadCheckpoint if it is not exactly what `save` wrote, OSError."""
    with open(path, "rb") as file:
        head = file.read(len(MAGIC) + 65)
        payload = file.read()
    if not head.startswith(MAGIC):
        raise BadCheckpoint(f"{path.name} is no sam_bench checkpoint")
    if hashlib.sha256(payload).hexdigest().encode() != head[len(MAGIC) : -1]:
        raise BadCheckpoint(f"{path.name} is torn or damaged (its checksum differs)")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler answers nonsense with whatever it stumbles over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadCheckpoint(f"{path.name} holds more than tensors and plain values: {reason}") from None
    if not isinstance(state, dict):
        raise BadCheckpoint(f"{path.name} holds no state of a run")
    return state


def load(folder: Path, run_id: str) -> dict[str, Any] | None:
    """The newest usable checkpoint of `run_id`, or None; says which files were passed over and why."""
    for name in NAMES:
        try:
            state = read(folder / name)
        except FileNotFoundError:
            continue
        except (BadCheckpoint, OSError) as error:
            warnings.warn(f"{error}; falling back to what came before it", stacklevel=2)
            continue
        if state.get("run_id") != run_id:
            warnings.warn(f"{name} belongs to run {state.get('run_id')}, not to {run_id}: ignored", stacklevel=2)
            continue
        return state
    return None
