"""The commands that read records: table, figures, report, verify, wandb."""

import argparse

from sam_bench.commands.experiments import records_of


def table(arguments: argparse.Namespace) -> int:
    """The results table."""
    from sam_bench.results.record import atomic_write
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
    """Send finished records to W&B; what is there already is not sent again."""
    records = {name: records_of(name) for name in arguments.experiments}
    from sam_bench.loggers.wandb import sync

    sent = sync(records, project=arguments.project, entity=arguments.entity, mode=arguments.mode)
    print(*sent, f"{len(sent)} runs sent", sep="\n")
    return 0
