"""The options of the launchers of this package: configs/launcher, given as `launcher.partition=gpu`."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sam_bench.options.rules import above, at_least

Count = Annotated[int, at_least(1)]


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """SLURM, through submitit."""

    target: ClassVar = "sam_bench.sweeps.engines.slurm.SlurmEngine"
    partition: Annotated[str | None, "of the cluster; null: its default"]
    minutes: Annotated[Count, "time limit of a task; a cell that needs more goes on in the next"]
    memory_gb: Annotated[float, above(0), "of a task"]
    cpus: Annotated[Count, "cores of a task"]
    gpus: Annotated[int, at_least(0), "of a task; one cell uses one"]
    parallel: Annotated[Count, "tasks at once"]
    grace_seconds: Annotated[
        Count, "before the limit a task is told, to write its checkpoint and queue up again; less than `minutes`"
    ]
    setup: Annotated[list[str], "shell lines before the run"]
    options: Annotated[dict[str, Any], "any other option of sbatch, such as account"]


@dataclass(frozen=True, kw_only=True)
class Ray:
    """A Ray cluster."""

    target: ClassVar = "sam_bench.sweeps.engines.ray.RayEngine"
    address: Annotated[str, "host:port; `auto`: the cluster that this machine joined"]
    cpus: Annotated[float, above(0), "cores of a cell"]
    gpus: Annotated[float, at_least(0), "of a cell; a fraction shares a GPU"]
    parallel: Annotated[Count, "cells at once"]
