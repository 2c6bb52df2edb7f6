"""The outcomes of the cells of a sweep."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sam_bench.api import Outcome

SETTLED = (Outcome.FINISHED, Outcome.FAILED, Outcome.REFUSED, Outcome.STOPPED)


@dataclass
class Tally:
    """Run ids by outcome, in the order in which they ended; `messages` says why a run did not finish."""

    runs: dict[Outcome, list[str]] = field(default_factory=lambda: {outcome: [] for outcome in SETTLED})
    messages: dict[str, str] = field(default_factory=dict)

    def settle(self, run_id: str, outcome: Outcome, message: str) -> None:
        """Count a cell; one that is killed or busy while the sweep stops counts as stopped."""
        self.runs[outcome if outcome in SETTLED else Outcome.STOPPED].append(run_id)
        self.messages[run_id] = message

    def __getitem__(self, outcome: Outcome) -> list[str]:
        return self.runs[outcome]

    def ends(self) -> Iterator[tuple[str, Outcome]]:
        """Each run id with its outcome; runs that could not be made come first."""
        for outcome in (Outcome.REFUSED, Outcome.FAILED, Outcome.STOPPED, Outcome.FINISHED):
            yield from ((run_id, outcome) for run_id in self.runs[outcome])
