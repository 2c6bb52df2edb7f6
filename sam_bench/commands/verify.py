"""`sam-bench verify`."""

import argparse

from sam_bench.commands.words import add_experiment, records_of


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    verify = commands.add_parser("verify", help="whether the records are whole and the arms had equal chances")
    add_experiment(verify)
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compliance checks; 1 if a number must not be used as it stands."""
    records = records_of(arguments.experiment, arguments.overrides)
    from sam_bench.results import verify as checks

    findings = checks.verify(records)
    print(checks.describe(findings), end="")
    return int(any(finding.level == "fail" for finding in findings))
