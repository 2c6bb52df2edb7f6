"""A logger that notices two processes at work on the same run: the kernel's lock knows better than any lease."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Witness:
    """Holds a lock on a file of $CHAOS_WITNESS per run; where it is taken, `doubled` says so."""

    def start(self, head: Mapping[str, Any]) -> None:
        """Lock; the end of the process, whatever it is, unlocks."""
        folder = Path(os.environ["CHAOS_WITNESS"])
        self.lock = os.open(folder / f"{head['run_id']}.lock", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with open(folder / "doubled", "a") as file:
                file.write(f"{head['run_id']}\n")

    def log(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def finish(self, record: Mapping[str, Any]) -> None:
        """The record is there: another process may read it, and make nothing."""
        os.close(self.lock)
