"""The options of the loggers of this package: configs/logger. A logger mirrors a run and never changes it."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from sam_bench.options.rules import at_least


@dataclass(frozen=True, kw_only=True)
class NoLogger:
    """No mirror."""

    target: ClassVar = "sam_bench.loggers.none.NoLogger"


@dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """Event files of TensorBoard."""

    target: ClassVar = "sam_bench.loggers.tensorboard.TensorBoardLogger"


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Weights & Biases."""

    target: ClassVar = "sam_bench.loggers.wandb.WandbLogger"
    project: Annotated[str, "project in W&B"]
    entity: Annotated[str | None, "user or team in W&B; null: the default of the account"]
    mode: Annotated[Literal["offline", "online", "disabled"], "`offline` needs no account and sends nothing"]
    patience: Annotated[float, at_least(0), "how many seconds a run may wait for W&B at its end"]
