"""How the user names runs: every command that reads records takes the same words (docs/results.md)."""

import argparse
import fnmatch
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam_bench.api import Record, RunSpec
from sam_bench.commands.words import add_filter, need_bench, note
from sam_bench.errors import UsageError
from sam_bench.store import places

WITHOUT_EXPERIMENT = "runs"  # names runs without an experiment, in headings and file names


@dataclass(frozen=True)
class Chosen:
    """Runs that belong together: those of an experiment, of overrides as for `run`, or of --runs.

    `words` name the same runs in another command. `unreadable` are run ids that --runs matches but whose configuration
    is unknown, because the run is unfinished or its record cannot be used.
    """

    name: str
    words: tuple[str, ...]
    cells: tuple[RunSpec, ...]
    unreadable: tuple[str, ...] = field(default=())

    @property
    def run_ids(self) -> list[str]:
        """The ids of all runs, finished or not."""
        return [*(cell.run_id for cell in self.cells), *self.unreadable]

    @property
    def maker(self) -> str:
        """The command that makes these runs; "" for runs chosen with --runs."""
        if self.words[0] == "--runs":
            return ""
        if self.name != WITHOUT_EXPERIMENT:
            return f"sam-bench sweep {shlex.join(self.words)}"
        own = self.words[: self.words.index("--filter")] if "--filter" in self.words else self.words
        return f"sam-bench run {'-m ' if len(self.cells) > 1 else ''}{shlex.join(own)}"


def add_runs(parser: argparse.ArgumentParser) -> None:
    """The arguments `words`, --filter and --runs."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD",
        help="names of experiments (files of configs/experiment), then overrides for all of them, as in `sam-bench "
        "sweep`; overrides without an experiment name the runs that `sam-bench run` makes from them",
    )  # fmt: skip
    add_filter(parser)
    parser.add_argument(
        "--runs", action="append", default=[], metavar="GLOB",
        help="choose runs in the results folder by name, for instance --runs 'digits-*'; may be repeated",
    )  # fmt: skip


def chosen(arguments: argparse.Namespace) -> list[Chosen]:
    """The runs that the words name, one part for each experiment; raises UsageError if they name none."""
    need_bench()
    overrides = [word for word in arguments.words if "=" in word or word.startswith("~")]
    names = [word for word in arguments.words if word not in overrides]
    if arguments.runs and overrides:
        raise UsageError(
            f"{overrides[0]} cannot be combined with --runs, which names existing runs. Write --filter {overrides[0]} "
            "to choose among them."
        )
    if not (names or overrides or arguments.runs):
        raise UsageError(
            f"say which runs: an experiment, as in `sam-bench {arguments.command} quickstart`; overrides, as in "
            "optimizer=erm,sam seed=0,1; or --runs 'digits-*'."
        )
    experiments = [*dict.fromkeys(names)] or ([None] if overrides else [])
    found = _planned(experiments, overrides, arguments.filter) if experiments else []
    return found + ([_named(arguments.runs, arguments.filter)] if arguments.runs else [])


def _planned(experiments: Sequence[str | None], overrides: Sequence[str], filters: Sequence[str]) -> list[Chosen]:
    """A part for each experiment that the filters leave some run. A value needs to occur in one experiment only."""
    from sam_bench.config.compose import plan
    from sam_bench.sweeps.filters import matching

    plans = {experiment: plan(experiment, overrides, note) for experiment in experiments}
    left = {cell.run_id for cell in matching([cell for cells in plans.values() for cell in cells], filters)}
    parts = []
    for experiment, cells in plans.items():
        words = [*([experiment] if experiment else []), *overrides, *_filter_words(filters)]
        if kept := tuple(cell for cell in cells if cell.run_id in left):
            parts.append(Chosen(experiment or WITHOUT_EXPERIMENT, tuple(words), kept))
        else:
            note(f"--filter leaves no run of {experiment or WITHOUT_EXPERIMENT}")
    return parts


def _named(globs: Sequence[str], filters: Sequence[str]) -> Chosen:
    """The runs in the results folder whose names match. Filters can only read runs with a usable record."""
    from sam_bench.store.index import load_readable, names_of_runs
    from sam_bench.sweeps.filters import matching

    results = places.results_dir()
    every, ids = names_of_runs(results), []
    for glob in globs:
        if "/" in glob:
            raise UsageError(
                f"--runs {glob}: write the name without its folder, as in --runs "
                f"{shlex.quote(glob.rpartition('/')[2] or '*')}; SAM_BENCH_RESULTS names the results folder (now "
                f"{results})."
            )
        if not (matches := fnmatch.filter(every, glob)):
            raise UsageError(f"--runs {glob}: no name of the {len(every)} runs in {results / 'runs'} matches it.")
        ids += [name for name in matches if name not in ids]
    records, _ = load_readable(results, ids)
    cells = [_cell(record) for record in records]
    known = {cell.run_id for cell in cells}
    others = [name for name in ids if name not in known]
    if filters and others:
        note(f"--filter skips {len(others)} runs that have no usable record yet")
    words = [word for glob in globs for word in ("--runs", glob)]
    cells, others = matching(cells, filters), [] if filters else others
    return Chosen(WITHOUT_EXPERIMENT, (*words, *_filter_words(filters)), tuple(cells), tuple(others))


def _cell(record: Record) -> RunSpec:
    overrides = tuple(record.get("overrides", ()))
    return RunSpec(record["run_id"], {**record["labels"]}, overrides, {**record["config"]}, record["experiment"])


def _filter_words(filters: Sequence[str]) -> list[str]:
    return [word for text in filters for word in ("--filter", text)]


def cells_of(parts: Sequence[Chosen]) -> list[RunSpec]:
    """The cells of all parts, without duplicates."""
    return list({cell.run_id: cell for part in parts for cell in part.cells}.values())


def run_ids_of(parts: Sequence[Chosen]) -> list[str]:
    """The ids of the runs of all parts, without duplicates."""
    return list(dict.fromkeys(name for part in parts for name in part.run_ids))


def same_words(arguments: argparse.Namespace) -> str:
    """The words that name the same runs in another command."""
    words = [*arguments.words, *_filter_words(arguments.filter)]
    return shlex.join([*words, *(word for glob in arguments.runs for word in ("--runs", glob))])


def name_of(parts: Sequence[Chosen]) -> str:
    """One name for all parts, used in the names of figure files."""
    return "_".join(part.name for part in parts)


def records_of(parts: Sequence[Chosen]) -> list[Record]:
    """The records of all parts; raises UsageError if there is none, or if one cannot be used."""
    from sam_bench.store.index import load

    records = load(places.results_dir(), run_ids_of(parts))
    if not records:
        raise no_record(parts)
    return records


def by_name(parts: Sequence[Chosen]) -> dict[str, list[Record]]:
    """The records of each part by its name; raises UsageError as `records_of` does."""
    return {part.name: records_of([part]) for part in parts}


def readable_records_of(parts: Sequence[Chosen]) -> tuple[list[Record], Mapping[str, str]]:
    """The usable records of all parts, and {run_id: what is wrong} for the others."""
    from sam_bench.store.index import load_readable

    return load_readable(places.results_dir(), run_ids_of(parts))


def no_record(parts: Sequence[Chosen], what: str = "record") -> UsageError:
    """The error for runs without any record; it says what to do."""
    makers = " ; ".join(part.maker for part in parts if part.maker)
    advice = f"Make them with: {makers}. Or set" if makers else "Let them finish, or set"
    named = " and ".join(shlex.join(part.words) if part.name == WITHOUT_EXPERIMENT else part.name for part in parts)
    return UsageError(
        f"no {what} of {named} in {places.results_dir() / 'runs'}. {advice} SAM_BENCH_RESULTS to the folder that has "
        "them."
    )
