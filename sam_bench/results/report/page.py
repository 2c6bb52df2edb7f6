"""The report: one page that holds an experiment's tables, charts, provenance and commands, and needs nothing else."""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, cast

from sam_bench.api import Record
from sam_bench.results import budgets, looks, target
from sam_bench.results.arms import Block, blocks
from sam_bench.results.fairness import Finding
from sam_bench.results.report import data
from sam_bench.results.tables.render import html_tables
from sam_bench.results.tables.table import sections
from sam_bench.results.verify import verify
from sam_bench.store.disk import advice, atomic_write

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("tables.js", "charts.js", "rows.js", "sharpness.js", "tuning.js", "runs.js", "page.js")
SHOWN = 12  # runs named in a warning


def report(
    experiments: Mapping[str, Sequence[Record]], out: Path, named: Mapping[str, tuple[str, str]] | None = None
) -> Path:
    """Write the page about these experiments, {name: loaded records}, and return its path.

    `named` is what makes the runs of each again, and what names them in another command: {"quickstart": ("sam-bench
    sweep quickstart", "quickstart")}, which is also what is taken for an experiment that it lacks. Same records, same
    bytes. Raises UsageError where it cannot be written.
    """
    out = Path(out)
    with advice(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, page(experiments, named).encode())
    return out


def page(experiments: Mapping[str, Sequence[Record]], named: Mapping[str, tuple[str, str]] | None = None) -> str:
    """The page as text; `named` as in `report`."""
    plain = {name: (f"sam-bench sweep {shlex.quote(name)}", shlex.quote(name)) for name in experiments}
    commands = {**plain, **(named or {})}
    found = {name: blocks(records) for name, records in experiments.items()}
    every = list({record["run_id"]: record for records in experiments.values() for record in records}.values())
    parts = {
        "title": html.escape(f"sam_bench report: {', '.join(experiments)}"),
        "heading": html.escape(", ".join(experiments)),
        "summary": _summary(every),
        "warnings": _warnings(experiments, found),
        "results": "\n".join(
            _results(name, records, found[name], len(experiments) > 1) for name, records in experiments.items()
        ),
        "reproduce": "\n".join(_reproduce(name, records, *commands[name]) for name, records in experiments.items()),
        "style": _asset("report.css").replace("$colours", looks.css()),
        "script": "\n".join([_constants(), *map(_asset, SCRIPTS)]),
        "data": data.pack(data.data(experiments, found)),
    }
    return Template(_asset("report.html")).substitute(parts)


def _constants() -> str:
    """Markers and dashes as the scripts have them."""
    return "\n".join(f"const {name.upper()} = {json.dumps(value)};" for name, value in looks.for_charts().items())


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _summary(records: Sequence[Record]) -> str:
    """What was run, as a list of facts."""
    finished = [record for record in records if record["status"] == "finished"]
    labels = [record["labels"] for record in records]

    def names(key: str) -> str:
        return ", ".join(dict.fromkeys(str(cast(dict[str, Any], label)[key]) for label in labels))

    def made(*path: str) -> str:
        values = []
        for record in finished:
            value: Any = record["provenance"]
            for key in path:
                value = value.get(key) if isinstance(value, Mapping) else None
            values.append("unknown" if value is None else str(value))
        return ", ".join(dict.fromkeys(values)) or "none"

    hours = sum(record["train_seconds"] for record in finished) / 3600
    facts = {
        "runs": f"{len(finished)} finished, {len(records) - len(finished)} failed",
        "data sets": names("dataset"),
        "models": names("model"),
        "base optimizers": names("base"),
        "optimizers": names("optimizer"),
        "seeds": names("seed"),
        "training time": f"{hours:.2f} h in all",
        "hardware": made("hardware", "name"),
        "commit": ", ".join(commit[:10] for commit in made("commit").split(", ")),
        "torch": made("versions", "torch"),
    }
    rows = (f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd></div>" for key, value in facts.items())
    return f'<dl class="facts">{"".join(rows)}</dl>'


def _warnings(experiments: Mapping[str, Sequence[Record]], found: Mapping[str, Sequence[Block]]) -> str:
    """All findings of the compliance checks."""
    items = []
    for name, records in experiments.items():
        prefix = f"{name}: " if len(experiments) > 1 else ""
        items += [_warning(prefix, finding) for finding in verify(records, found[name])]
    if not items:
        return (
            "<p>None: the records are whole, budgets, splits and schedules equal, one commit, one kind of hardware.</p>"
        )
    return f'<ul class="warnings">{"".join(items)}</ul>'


def _warning(prefix: str, finding: Finding) -> str:
    word = "Failure" if finding.level == "fail" else "Warning"
    text = f"<strong>{word}</strong> ({html.escape(finding.check)}): {html.escape(prefix + finding.message)}"
    shown = "".join(f"<li><code>{html.escape(run)}</code></li>" for run in finding.runs[:SHOWN])
    more = f"<li>and {len(finding.runs) - SHOWN} more</li>" if len(finding.runs) > SHOWN else ""
    runs = "run" if len(finding.runs) == 1 else "runs"
    details = f"<details><summary>{len(finding.runs)} {runs}</summary><ul>{shown}{more}</ul></details>"
    return f'<li class="{finding.level}"><div>{text}</div>{details}</li>'


def _results(name: str, records: Sequence[Record], found: Sequence[Block], several: bool) -> str:
    heading = f"<h3>{html.escape(name)}</h3>\n" if several else ""
    compared = [budgets.section(parts) for parts in budgets.beside(records)]
    return heading + html_tables([*sections(found), *compared, *target.sections(found)])


def _reproduce(name: str, records: Sequence[Record], maker: str, words: str) -> str:
    """The commands that make each part of the page again."""
    commits = dict.fromkeys(str(record["provenance"].get("commit")) for record in records if "provenance" in record)
    known = [commit for commit in commits if commit not in ("None", "")]
    lines = [f"git checkout {known[0]}"] if len(known) == 1 else []
    lines += [
        f"{maker}       # the runs; finished ones are kept" if maker else "# each run: its overrides, in its record",
        f"sam-bench table {words}       # the tables",
        f"sam-bench figures {words}     # the figures",
        f"sam-bench verify {words}      # the warnings",
        f"sam-bench report {words} --out report.html",
    ]
    text = html.escape("\n".join(lines))
    label = html.escape(f"commands that reproduce {name}", quote=True)
    return f'<pre tabindex="0" aria-label="{label}"><code>{text}</code></pre>'
