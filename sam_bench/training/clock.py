"""Three separate clocks for training, evaluation and set-up; only one runs at a time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# The first steps of a process build kernels and fill caches; they are left out of the throughput.
WARMUP_STEPS = 3


class Clock:
    """Seconds spent per purpose; the device is synchronised only when a purpose begins or ends."""

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter):
        self.device, self.now = device, now
        self.seconds = {"train": 0.0, "eval": 0.0, "setup": 0.0}
        self.timed: dict[str, float] = {"seconds": 0.0, "samples": 0}
        self._purpose: str | None = None
        self._since = 0.0
        self._warm = 0

    def _switch(self, purpose: str | None) -> str | None:
        """Add the time since the last switch to the old purpose, switch to `purpose`, and return the old one."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        time_now = self.now()
        before, elapsed = self._purpose, time_now - self._since
        if before is not None:
            self.seconds[before] += elapsed
        if before == "train" and self._warm >= WARMUP_STEPS:
            self.timed["seconds"] += elapsed
        self._purpose, self._since = purpose, time_now
        return before

    @contextmanager
    def running(self, purpose: str) -> Iterator[None]:
        """Add the seconds of the block to `purpose` (train, eval or setup); an inner block pauses the outer one."""
        before = self._switch(purpose)
        try:
            yield
        finally:
            self._switch(before)

    def count(self, samples: int) -> None:
        """One training step of `samples` samples is done."""
        if self._warm >= WARMUP_STEPS:
            self.timed["samples"] += samples
            return
        if self._warm + 1 == WARMUP_STEPS:
            self._switch(self._purpose)  # the time from here on counts for the throughput
        self._warm += 1

    def read(self, purpose: str) -> float:
        """Seconds of `purpose` up to now, without waiting for the device."""
        return self.seconds[purpose] + (self.now() - self._since if self._purpose == purpose else 0.0)

    @property
    def throughput(self) -> float | None:
        """Training samples per second after the warm-up steps; None if the run is too short."""
        return self.timed["samples"] / self.timed["seconds"] if self.timed["samples"] else None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint stores; not to be called while the training clock runs."""
        return {"seconds": dict(self.seconds), "timed": dict(self.timed)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; the set-up time of this process is added to that of the earlier ones."""
        setup = self.seconds["setup"]
        self.seconds = {**state["seconds"], "setup": state["seconds"]["setup"] + setup}
        self.timed = dict(state["timed"])
