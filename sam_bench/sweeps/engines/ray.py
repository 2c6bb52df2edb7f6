"""Cells as actors of a Ray cluster: the engine behind `sam-bench sweep NAME --launcher ray` (extra [ray]).

All nodes must see the results folder. An actor lives as long as its cell; Ray decides on which node it runs.
"""

import contextlib
import importlib
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sam_bench.api import Outcome, RunSpec
from sam_bench.errors import UsageError
from sam_bench.training.threads import SEVERAL

try:
    import ray
except ImportError as missing:
    raise UsageError("the launcher ray needs Ray: pip install 'sam-bench[ray]'.") from missing


class Worker:
    """One cell on a node. `make` does the work; `stop` is called in another thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def make(self, cell: RunSpec, results: Path) -> tuple[Outcome, str]:
        """Make the cell; returns its outcome and a message."""
        from sam_bench.sweeps.worker import outcome_of

        return outcome_of(cell, results, self._stop.is_set)

    def stop(self) -> None:
        """Ask `make` to write a checkpoint and end."""
        self._stop.set()


class RayJob:
    """One actor."""

    def __init__(self, cell: RunSpec, actor: Any, results: Path):
        self.cell, self.started = cell, time.monotonic()
        self._actor = actor
        self._answer = actor.make.remote(cell, results)

    def poll(self) -> tuple[Outcome, str] | None:
        """None while it waits for resources or works; then its own outcome, or `killed`."""
        if not ray.wait([self._answer], timeout=0)[0]:
            return None
        try:
            answer: tuple[Outcome, str] = ray.get(self._answer)
            return answer
        except ray.exceptions.RayTaskError as error:  # an error of Ray on the node: importing, unpickling
            return Outcome.FAILED, str(error).strip().splitlines()[-1]
        except ray.exceptions.RayError as error:
            return Outcome.KILLED, f"its Ray actor is gone: {str(error).strip().splitlines()[0]}"
        finally:
            self.kill()

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        self._actor.stop.remote()

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.kill(self._actor)


class RayEngine:
    """Runs each cell in an actor with the resources of configs/launcher/ray.yaml.

    Raises UsageError if no cluster answers at `address`, or if no node of it is large enough for a cell.
    """

    def __init__(self, results: Path, jobs: int | None = None, *, address: str = "auto", cpus: float = 1,
                 gpus: float = 0, parallel: int = 100):  # fmt: skip
        self.results, self.capacity = results.resolve(), jobs or parallel
        try:
            _knock(_found(address))
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"no Ray cluster at launcher.address={address} ({error}): start one with `ray start --head`, or, where "
                "one was, forget it with `ray stop`."
            ) from error
        found = ray.nodes()  # type: ignore[no-untyped-call] # Ray's
        nodes = [node["Resources"] for node in found if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            raise UsageError(f"no node of the Ray cluster has launcher.cpus={cpus} and launcher.gpus={gpus}.")
        self._worker = ray.remote(Worker).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_concurrency=2, runtime_env={"env_vars": SEVERAL}
        )

    def start(self, cells: Sequence[RunSpec]) -> Iterator[RayJob]:
        """Start cells, each in a new actor."""
        for cell in cells:
            yield RayJob(cell, self._worker.remote(), self.results)


def _found(address: str) -> str:
    """The host:port that Ray takes `auto` for: of $RAY_ADDRESS, or of the last cluster here, which may be long gone.

    Ray has no public function for it.
    """
    services: Any = importlib.import_module("ray._private.services")
    if address != "auto" or not hasattr(services, "canonicalize_bootstrap_address"):
        return address
    return str(services.canonicalize_bootstrap_address(address) or address)


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at host:port; Ray itself would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()
