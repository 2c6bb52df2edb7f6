"""`sam-bench verify`."""

import argparse

from sam_bench.commands.chosen import add_runs, chosen, no_record, readable_records_of


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    verify = commands.add_parser(
        "verify", help="check that the records are intact and that all methods had equal chances",
        description="Lists every record that cannot be used (incomplete, edited, malformed). Checks the others: run "
        "ids, checksums, learning curves, equal data, splits and budgets, comparable timings. Exit status 1 if a "
        "number must not be used as it is.",
    )  # fmt: skip
    add_runs(verify)
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the checks; 1 if a number must not be used as it is."""
    parts = chosen(arguments)
    records, unusable = readable_records_of(parts)
    if not records and not unusable:
        raise no_record(parts)
    from sam_bench.results import verify as checks
    from sam_bench.results.arms import blocks
    from sam_bench.results.tuned import origins

    found = blocks(records)
    findings = [*checks.unusable(unusable, records), *checks.verify(records, found), *checks.without_checksum(records)]
    print(checks.describe(findings), end="")
    for block in found:
        print(f"{block.title}: {origins(block.arms)}")
    return int(any(finding.level == "fail" for finding in findings))
