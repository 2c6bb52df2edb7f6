"""What a run reports while it works."""

from pathlib import Path
from typing import Annotated, TypedDict

from sam_bench.api import AGES, LINE, MANY, Key
from sam_bench.errors import UsageError
from sam_bench.store.disk import read_file
from sam_bench.store.plain_json import decode
from sam_bench.store.schema import check


class Heartbeat(TypedDict, total=False):
    """The content of heartbeat.json."""

    step: Annotated[int, Key("training steps done", least=0, most=MANY)]
    steps: Annotated[int, Key("training steps in all", least=0, most=MANY)]
    share: Annotated[float, Key("share of the run that is done", least=0, most=1)]
    epoch: Annotated[int, Key("epochs done", least=0, most=MANY)]
    metric: Annotated[str, Key("the metric that chooses the best epoch", LINE)]
    value: Annotated[float | None, Key("its last value on the valid split", most=1e100)]
    time: Annotated[float, Key("when, seconds since 1970 by the clock of the run's machine", least=0, most=AGES)]


def heartbeat(folder: Path) -> Heartbeat | None:
    """The last heartbeat in a run's folder; None if there is none or it cannot be read."""
    try:
        found: Heartbeat = decode(read_file(folder / "heartbeat.json"))
        check(found, Heartbeat)
    except (OSError, ValueError, UsageError):
        return None
    return found
