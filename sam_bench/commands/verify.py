"""`sam-bench verify`."""

import argparse

from sam_bench.commands.chosen import add_runs, chosen, no_record, readable_records_of


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    verify = commands.add_parser(
        "verify", help="whether the records are whole and the arms had equal chances",
        description="Names every record that cannot be used (torn, edited, malformed), then checks those that can: "
        "identity, checksums, curves, equal data, splits and budgets, doubts about timings. Ends with 1 if a number "
        "must not be used as it stands.",
    )  # fmt: skip
    add_runs(verify)
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compliance checks; 1 if a number must not be used as it stands."""
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
