"""The commands that read records: table, figures, report, verify, wandb."""

import argparse
from pathlib import Path

from sam_bench.commands.experiments import records_of


def table(arguments: argparse.Namespace) -> int:
    """The results table."""
    from sam_bench.results.disk import atomic_write
    from sam_bench.results.tables import table as render

    text = render(records_of(arguments.experiment, arguments.overrides), format=arguments.format)
    if arguments.out is None:
        print(text)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(arguments.out, (text.rstrip("\n") + "\n").encode())
    return 0


def figures(arguments: argparse.Namespace) -> int:
    """The figures."""
    records = records_of(arguments.experiment, arguments.overrides)
    from sam_bench.results.figures import draw

    for path in draw(records, arguments.out, name=arguments.experiment):
        print(path)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """One self-contained page."""
    records = {name: records_of(name) for name in arguments.experiments}
    from sam_bench.results.report import report as write

    print(write(records, arguments.out))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Compliance checks; 1 if a number must not be used as it stands."""
    records = records_of(arguments.experiment, arguments.overrides)
    from sam_bench.results import verify as checks

    findings = checks.verify(records)
    print(checks.describe(findings), end="")
    return int(any(finding.level == "fail" for finding in findings))


def wandb(arguments: argparse.Namespace) -> int:
    """Send finished records, tables and figures to W&B; what is there already is not sent again."""
    from tempfile import TemporaryDirectory

    records = {name: records_of(name) for name in arguments.experiments}
    from sam_bench.loggers.wandb import sync

    with TemporaryDirectory() as folder:
        files = {name: _files(name, records[name], Path(folder)) for name in records} if arguments.files else {}
        sent = sync(records, project=arguments.project, entity=arguments.entity, mode=arguments.mode, files=files)
    print(*sent, f"{len(sent)} W&B runs sent", sep="\n")
    return 0


def _files(name: str, records: list, folder: Path) -> list[Path]:
    """The tables and figures of an experiment."""
    from sam_bench.results.figures import draw
    from sam_bench.results.tables import table as render

    written = draw(records, folder, name=name)
    for format, end in (("csv", "csv"), ("markdown", "md"), ("latex", "tex"), ("html", "html")):
        path = folder / f"{name}.{end}"
        path.write_text(render(records, format=format), encoding="utf-8")
        written.append(path)
    return written
