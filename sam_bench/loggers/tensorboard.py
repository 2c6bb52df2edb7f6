"""Mirrors runs to TensorBoard event files. If this fails, it stops with a warning, and the run continues."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sam_bench.errors import UsageError
from sam_bench.store import places
from sam_bench.store.disk import need_real_folder


class TensorBoardLogger:
    """Event files in RESULTS/tensorboard/<run_id>; raises UsageError if tensorboard is not installed."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            raise UsageError("logger=tensorboard needs one more package: pip install tensorboard") from None
        self._open = SummaryWriter
        self._writer: Any = None

    def start(self, head: Mapping[str, Any]) -> None:
        """Open an event file for the run, next to those of its earlier parts."""
        folder: Path = places.results_dir() / "tensorboard" / head["run_id"]

        def opened() -> None:
            need_real_folder(folder, 2)  # in a results folder from somebody else it may be a link to anywhere
            self._writer = self._open(str(folder))

        self._try(opened)

    def log(self, row: Mapping[str, Any]) -> None:
        """One point per column at the training step."""
        self._write({name: value for name, value in row.items() if name != "step"}, row["step"])

    def finish(self, record: Mapping[str, Any]) -> None:
        """The final metrics, then the file is closed."""
        self._write({f"final/{name}": value for name, value in record["metrics"].items()}, record["steps"])
        if self._writer is not None:
            self._try(self._writer.close)

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            if value is not None and self._writer is not None:
                self._try(partial(self._writer.add_scalar, name, value, step))

    def _try(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            self._writer = None
            warnings.warn(f"TensorBoard failed: {error}; the record is complete without it", stacklevel=3)
