"""No logger: there is only the record on disk."""

from collections.abc import Mapping
from typing import Any


class NoLogger:
    """The protocol of a logger: it receives the events of a run and cannot change the run."""

    def start(self, head: Mapping[str, Any]) -> None:
        """The run begins or resumes; `head` is its record before training."""

    def log(self, row: Mapping[str, Any]) -> None:
        """An epoch has ended; `row` is its line of the curve."""

    def finish(self, record: Mapping[str, Any]) -> None:
        """The run has its record."""
