"""Which runs a command is about: the same words for every command that reads records (docs/results.md)."""

import argparse
import fnmatch
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam_bench.api import Record, RunSpec
from sam_bench.commands.words import add_filter, need_bench, note
from sam_bench.errors import UsageError
from sam_bench.store import places

WITHOUT_EXPERIMENT = "runs"  # the name of what no experiment names: of a page's heading, of figures' files


@dataclass(frozen=True)
class Chosen:
    """Runs that belong together: of an experiment, of the words of `run`, or of --runs.

    `words` name the same runs in another command. `unreadable` are the ids of --runs whose configuration is not known:
    unfinished runs, and records that cannot be used.
    """

    name: str
    words: tuple[str, ...]
    cells: tuple[RunSpec, ...]
    unreadable: tuple[str, ...] = field(default=())

    @property
    def run_ids(self) -> list[str]:
        """The ids of all of them, finished or not."""
        return [*(cell.run_id for cell in self.cells), *self.unreadable]

    @property
    def maker(self) -> str:
        """The command that makes them, "" for runs that are named by their records."""
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
        help="experiments (files of configs/experiment), then overrides that hold for all of them, as for sweep; "
        "overrides alone name what `sam-bench run` or `run -m` makes of the same words",
    )  # fmt: skip
    add_filter(parser)
    parser.add_argument(
        "--runs", action="append", default=[], metavar="GLOB",
        help="runs of the results folder by their names, for instance --runs 'digits-*'; may be given several times",
    )  # fmt: skip


def chosen(arguments: argparse.Namespace) -> list[Chosen]:
    """What the words name, one part for each experiment; raises UsageError where they name nothing."""
    need_bench()
    overrides = [word for word in arguments.words if "=" in word or word.startswith("~")]
    names = [word for word in arguments.words if word not in overrides]
    if arguments.runs and overrides:
        raise UsageError(
            f"{overrides[0]} cannot stand beside --runs, which names finished runs: --filter {overrides[0]} leaves "
            "the others out."
        )
    if not (names or overrides or arguments.runs):
        raise UsageError(
            f"say which runs: an experiment, as in `sam-bench {arguments.command} quickstart`; the words of `sam-bench "
            "run`, as in optimizer=erm,sam seed=0,1; or --runs 'digits-*'."
        )
    found = [_planned(name, overrides, arguments.filter) for name in dict.fromkeys(names)]
    found += [_planned(None, overrides, arguments.filter)] if overrides and not names else []
    return found + ([_named(arguments.runs, arguments.filter)] if arguments.runs else [])


def _planned(experiment: str | None, overrides: Sequence[str], filters: Sequence[str]) -> Chosen:
    from sam_bench.config.compose import plan
    from sam_bench.sweeps.filters import matching

    words = [*([experiment] if experiment else []), *overrides, *_filter_words(filters)]
    cells = matching(plan(experiment, overrides, note), filters)
    return Chosen(experiment or WITHOUT_EXPERIMENT, tuple(words), tuple(cells))


def _named(globs: Sequence[str], filters: Sequence[str]) -> Chosen:
    """The runs in the results folder whose names match; with filters, those of them that have a usable record."""
    from sam_bench.store.index import load_readable, names_of_runs
    from sam_bench.sweeps.filters import matching

    results = places.results_dir()
    every, ids = names_of_runs(results), []
    for glob in globs:
        if "/" in glob:
            raise UsageError(
                f"--runs {glob}: write the names alone, as in --runs {shlex.quote(glob.rpartition('/')[2] or '*')}; "
                f"SAM_BENCH_RESULTS says in which folder they are (now {results})."
            )
        if not (matches := fnmatch.filter(every, glob)):
            raise UsageError(f"--runs {glob}: none of the {len(every)} runs in {results / 'runs'} has such a name.")
        ids += [name for name in matches if name not in ids]
    records, _ = load_readable(results, ids)
    cells = [_cell(record) for record in records]
    known = {cell.run_id for cell in cells}
    others = [name for name in ids if name not in known]
    if filters and others:
        note(f"--filter leaves out {len(others)} runs that have no usable record yet")
    words = [word for glob in globs for word in ("--runs", glob)]
    cells, others = matching(cells, filters), [] if filters else others
    return Chosen(WITHOUT_EXPERIMENT, (*words, *_filter_words(filters)), tuple(cells), tuple(others))


def _cell(record: Record) -> RunSpec:
    overrides = tuple(record.get("overrides", ()))
    return RunSpec(record["run_id"], {**record["labels"]}, overrides, {**record["config"]}, record["experiment"])


def _filter_words(filters: Sequence[str]) -> list[str]:
    return [word for text in filters for word in ("--filter", text)]


def cells_of(parts: Sequence[Chosen]) -> list[RunSpec]:
    """The cells of all parts, each once."""
    return list({cell.run_id: cell for part in parts for cell in part.cells}.values())


def run_ids_of(parts: Sequence[Chosen]) -> list[str]:
    """The ids of all runs of all parts, each once."""
    return list(dict.fromkeys(name for part in parts for name in part.run_ids))


def same_words(arguments: argparse.Namespace) -> str:
    """What names the same runs in another command."""
    words = [*arguments.words, *_filter_words(arguments.filter)]
    return shlex.join([*words, *(word for glob in arguments.runs for word in ("--runs", glob))])


def name_of(parts: Sequence[Chosen]) -> str:
    """One name for all parts, as figures' files have it."""
    return "_".join(part.name for part in parts)


def records_of(parts: Sequence[Chosen]) -> list[Record]:
    """The records of all parts; UsageError when there is none, or one that cannot be used."""
    from sam_bench.store.index import load

    records = load(places.results_dir(), run_ids_of(parts))
    if not records:
        raise no_record(parts)
    return records


def by_name(parts: Sequence[Chosen]) -> dict[str, list[Record]]:
    """The records of each part by its name; UsageError as of `records_of`."""
    return {part.name: records_of([part]) for part in parts}


def readable_records_of(parts: Sequence[Chosen]) -> tuple[list[Record], Mapping[str, str]]:
    """The records of all parts that can be used, and {run_id: what is wrong} of the others."""
    from sam_bench.store.index import load_readable

    return load_readable(places.results_dir(), run_ids_of(parts))


def no_record(parts: Sequence[Chosen], what: str = "record") -> UsageError:
    """What to do where there is no record at all."""
    makers = " ; ".join(part.maker for part in parts if part.maker)
    advice = f"Make them with: {makers}, or set" if makers else "Let them finish, or set"
    named = " and ".join(shlex.join(part.words) if part.name == WITHOUT_EXPERIMENT else part.name for part in parts)
    return UsageError(
        f"no {what} of {named} in {places.results_dir() / 'runs'}. {advice} SAM_BENCH_RESULTS to where they are."
    )
