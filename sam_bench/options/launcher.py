"""The options of the launchers of this package: configs/launcher, given as `launcher.partition=gpu`."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sam_bench.options.rules import above, at_least

Count = Annotated[int, at_least(1)]


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """SLURM, through submitit."""

    target: ClassVar = "sam_bench.sweeps.engines.slurm.SlurmEngine"
    partition: Annotated[str | None, "partition of the cluster; null: its default"]
    minutes: Annotated[Count, "time limit of a task; a cell that needs longer continues in the next task"]
    memory_gb: Annotated[float, above(0), "memory of a task"]
    cpus: Annotated[Count, "cores of a task"]
    gpus: Annotated[int, at_least(0), "GPUs of a task; a cell uses one"]
    parallel: Annotated[Count, "number of tasks at once"]
    grace_seconds: Annotated[
        Count, "how long before its limit a task is warned, so that it writes a checkpoint and queues again"
    ]
    setup: Annotated[list[str], "shell lines to execute before the run"]
    options: Annotated[dict[str, Any], "any other option of sbatch, such as account"]


@dataclass(frozen=True, kw_only=True)
class Ray:
    """A Ray cluster."""

    target: ClassVar = "sam_bench.sweeps.engines.ray.RayEngine"
    address: Annotated[str, "host:port; `auto`: the cluster that this machine joined"]
    cpus: Annotated[float, above(0), "cores of a cell"]
    gpus: Annotated[float, at_least(0), "GPUs of a cell; with a fraction, cells share a GPU"]
    parallel: Annotated[Count, "number of cells at once"]
