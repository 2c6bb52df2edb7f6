"""What a sweep shows while it runs: one live display on a terminal, plain lines elsewhere."""

import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sam_bench.api import Job, Outcome
from sam_bench.errors import UsageError
from sam_bench.store.heartbeat import Heartbeat
from sam_bench.store.record import read_record
from sam_bench.sweeps.estimate import duration
from sam_bench.sweeps.sweep import Sweep, heartbeat

PLAIN_SECONDS = 60.0  # seconds between two progress lines without a terminal


Beats = list[tuple[Job, Heartbeat]]  # the running cells, each with its last heartbeat


class Display:
    """Shows the cells done, running and failed, throughput, remaining time, and the last metric of each running cell.

    Use it as a context manager and hand it to Sweep as `show`. `done` cells were finished before.
    """

    def __init__(self, name: str, total: int, done: int, results: Path, console: Console):
        self.name, self.total, self.done, self.results, self.console = name, total, done, results, console
        self.started = self.told = time.monotonic()
        self.announced: set[str] = set()
        self.warned: set[str] = set()
        self.shares: dict[str, float] = {}  # how far each running cell was when this sweep started it
        self.stopping = False
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[state]}"), console=console)
        self.bar = self.progress.add_task(name, total=total, completed=done, state="")
        self.live = Live(self.progress, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, sweep: Sweep) -> None:
        self._announce(sweep)
        if sweep.interrupts and not self.stopping:
            self.stopping = True
            self._print("stopping: each running cell writes a checkpoint and ends; press Ctrl-C again to end them now")
        due = time.monotonic() - self.told >= PLAIN_SECONDS
        if self.console.is_terminal or due:
            beats = [(job, heartbeat(job.cell, self.results)) for job in sweep.running]
            state = self._state(sweep, beats)
            if due and not self.console.is_terminal:
                self.told = time.monotonic()
                finished = self.done + len(sweep.tally[Outcome.FINISHED])
                self._print(f"{self.name}: {finished}/{self.total} done, {state}")
                for job, beat in beats:
                    self._print("  " + "  ".join(self._row(job, beat)))
            self.progress.update(self.bar, completed=self.done + len(sweep.tally[Outcome.FINISHED]), state=state)
            self.live.update(Group(self._table(beats), self.progress))

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _announce(self, sweep: Sweep) -> None:
        """Print a line for each cell that has ended since the last call."""
        for outcome, run_ids in sweep.tally.runs.items():
            for run_id in run_ids:
                if run_id not in self.announced:
                    self.announced.add(run_id)
                    line = self._line(outcome, run_id, sweep.tally.messages.get(run_id, ""))
                    self.console.print(line, highlight=False, soft_wrap=True)
        for run_id, strange in sweep.silent.items():
            if strange and run_id not in self.warned:
                self.warned.add(run_id)
                self._print(f"waits for another sweep's {run_id}: {strange}")

    def _line(self, outcome: Outcome, run_id: str, message: str) -> str:
        count = escape(f"[{self.done + len(self.announced)}/{self.total}]")
        if outcome is not Outcome.FINISHED:
            return f"{count} [red]{outcome}[/red] {run_id} {escape(message.partition(chr(10))[0])}".rstrip()
        try:
            record = read_record(self.results / "runs" / run_id)
        except UsageError as error:
            return f"{count} [red]damaged[/red] {escape(str(error))}"
        metric = record["metric"]["name"]
        value = record["metrics"].get(f"valid/{metric}")
        shown = "undefined" if value is None else f"{value:.4f}"
        return f"{count} {run_id}  valid/{metric} {shown}  {record['train_seconds']:.1f} s"

    def _state(self, sweep: Sweep, beats: Beats) -> str:
        """Running and failed cells, throughput, and the time left if waiting cells take as long as finished ones."""
        tally = sweep.tally
        parts = [f"{len(beats)} running", f"{len(tally[Outcome.FAILED]) + len(tally[Outcome.REFUSED])} failed"]
        if not beats and sweep.waiting:
            parts.append(f"{len(sweep.waiting)} running in another sweep")
        made = float(len(tally[Outcome.FINISHED]))
        for job, beat in beats:
            share = beat.get("share", 0.0)
            made += share - self.shares.setdefault(job.cell.run_id, share)
        seconds = time.monotonic() - self.started
        if made > 0.2:
            left = sum(1.0 - beat.get("share", 0.0) for _, beat in beats) + len(sweep.waiting)
            parts += [f"{3600 * made / seconds:.3g} cells/h", f"ETA {duration(left * seconds / made)}"]
        return ", ".join(parts)

    def _row(self, job: Job, beat: Heartbeat) -> tuple[str, str, str, str]:
        value = beat.get("value")
        shown = "" if value is None else f"valid/{beat.get('metric', '')} {value:.4f}"
        steps = f"{beat['step']}/{beat['steps']} steps" if "steps" in beat else "setting up"
        return job.cell.run_id, steps, shown, duration(time.monotonic() - job.started)

    def _table(self, beats: Beats) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for job, beat in beats:
            table.add_row(*self._row(job, beat))
        return table
