"""Whether an experiment's records are whole, and its comparisons fair.

A finding of level `fail` says that a number must not be used as it stands; `warn` that it is weaker than it looks;
`note` is for the record.
"""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, cast

from sam_bench.api import Finished, Record
from sam_bench.errors import UsageError
from sam_bench.results.arms import BASE_ARM, Arm, Block, blocks, seeds_of
from sam_bench.results.fairness import Finding, doubts, names_of
from sam_bench.results.tuned import provenance
from sam_bench.store import added
from sam_bench.store.identity import run_id
from sam_bench.store.index import curve, error_line
from sam_bench.store.record import damaged_files


def verify(records: Sequence[Record], found: Sequence[Block] | None = None) -> list[Finding]:
    """All findings about these loaded records, failures first; [] when nothing is wrong.

    Reads each run's curve.csv. No data set is read: `sam-bench data verify` does that. `found` are the records'
    blocks where the caller has them already.
    """
    found = blocks(records) if found is None else found
    runs = [record for record in records if record["status"] == "finished"]
    findings = [finding for record in records for finding in _whole(record)]
    findings += [*fairness(found), *doubts(found, runs), *provenance(found)]
    return sorted(findings, key=lambda finding: finding.level != "fail")


def unusable(bad: Mapping[str, str], records: Sequence[Record]) -> list[Finding]:
    """A finding for every record that cannot be read, {run_id: what is wrong}, and for every such added record."""
    found = [Finding("record", "fail", message, (name,)) for name, message in bad.items()]
    return found + [Finding("record", "fail", message, ()) for message in added.unusable(records)]


def without_checksum(records: Sequence[Record]) -> list[Finding]:
    """A note where records cannot show that nobody edited them: those of schema 1 carry no checksum of themselves."""
    names = names_of(record for record in records if "sha256" not in record)
    if not names:
        return []
    message = (
        f"{len(names)} of {len(records)} records carry no checksum of their own (schema 1): an edit that agrees with "
        "their configuration and curve would not be seen"
    )
    return [Finding("checksum", "note", message, names)]


def describe(findings: Sequence[Finding]) -> str:
    """The findings as lines of text."""
    lines = [f"{finding.level:4}  {finding.check:10}  {finding.message}" for finding in findings]
    if all(finding.level == "note" for finding in findings):
        sound = "nothing is wrong: records whole, budgets, splits and schedules equal, one commit, one kind of hardware"
        lines = [sound, *lines]
    return "\n".join(lines) + "\n"


def fairness(found: Sequence[Block]) -> list[Finding]:
    """Findings about each method beside its base arm: data, split, budget, schedule, base options.

    A base arm with another budget than the first one is there to differ, and not judged.
    """
    return [
        Finding(check, "fail", f"{block.title}: {arm.name} and {arm.base.name} {message}", names_of(arm.runs))
        for block in found
        for arm in block.arms
        if arm.base
        for check, message in unfair(arm)
    ]


def unfair(arm: Arm) -> Sequence[tuple[str, str]]:
    """(check, what differs) between a method's arm and the base arm that it is compared to."""
    if "unfair" not in arm.memo:
        arm.memo["unfair"] = tuple(_unfair(arm))
    reasons: tuple[tuple[str, str], ...] = arm.memo["unfair"]
    return reasons


def _unfair(arm: Arm) -> Iterable[tuple[str, str]]:
    base = arm.base
    if base is None or not arm.runs or not base.runs or arm.labels["optimizer"] == BASE_ARM:
        return
    for check, key in (("data", "sha256"), ("split", "split_sha256")):
        ours, others = (
            {seeds_of(run): cast(dict[str, Any], run["data"]).get(key) for run in a.runs} for a in (arm, base)
        )
        apart = sorted(seeds for seeds in ours.keys() & others.keys() if ours[seeds] != others[seeds])
        if apart:
            yield check, f"differ in {key} for seed {', '.join(str(seed) for seed, _ in apart)}"
    tuned = [{"trials": 0, "study": None, "keys": []} if part.tuned is None else part.tuned for part in (arm, base)]
    if tuned[0]["trials"] != tuned[1]["trials"]:
        yield "tuning", f"differ in tuning trials ({tuned[0]['trials']}, {tuned[1]['trials']})"
    elif tuned[0]["study"] != tuned[1]["study"]:
        yield "tuning", f"were tuned in different studies ({tuned[0]['study']}, {tuned[1]['study']})"
    both = set(tuned[0]["keys"]) & set(tuned[1]["keys"])
    for check, groups in CONFIGURED.items():
        differing = _differing(arm.options, base.options, groups, both)
        if differing:
            yield check, f"differ in {', '.join(differing)}"
    yield from _unequal_spending(arm, base)


# Groups of the configuration that must be the same in arms that are compared, by the name of the check.
CONFIGURED = {
    "task": ("dataset",),
    "model": ("model",),
    "budget": ("train",),
    "schedule": ("schedule",),
    "base": ("base",),
    "precision": ("precision", "compile", "deterministic"),
}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], groups: Sequence[str], tuned: Set[str]) -> list[str]:
    """`train.epochs (8, 16)` for every option of these groups that two arms do not share, unless both tuned it."""
    keys = sorted(key for key in (one.keys() | other.keys()) - tuned if key.partition(".")[0] in groups)
    return [f"{key} ({one.get(key)}, {other.get(key)})" for key in keys if one.get(key) != other.get(key)]


def _unequal_spending(arm: Arm, base: Arm) -> Iterable[tuple[str, str]]:
    """Whether both spent what their common budget says: samples, gradient evaluations or seconds, to 5 %."""
    train = arm.runs[0]["config"].get("train", {})
    if train.get("patience") is not None:
        return  # early stopping: what was offered was equal, what was used need not be
    budget = train.get("budget", "epochs")
    column = {"epochs": "samples", "grad_evals": "grad_evals", "seconds": "train_seconds"}.get(budget)
    if column:
        ours, others = arm.cost(column), base.cost(column)
        if not math.isclose(ours, others, rel_tol=0.05):
            yield "budget", f"spent {ours:.6g} and {others:.6g} {column} under budget={budget}"


def _whole(record: Record) -> list[Finding]:
    """What is wrong with one record by itself."""
    name = record["run_id"]

    def fail(check: str, message: str) -> Finding:
        return Finding(check, "fail", f"{name}: {message}", (name,))

    if record["status"] != "finished":
        kind, _, line = error_line(record).partition(": ")
        return [fail("failed", f"{kind} at step {record['error'].get('step')}: {line}")]
    found = []
    expected = run_id(record["labels"], record["config"])
    if expected != name:
        found.append(fail("identity", f"its configuration hashes to {expected}: the record was edited"))
    if "path" in record and Path(record["path"]).name != name:
        found.append(fail("identity", f"it lies in {Path(record['path']).name}"))
    for file in damaged_files(Path(record["path"]), record) if "path" in record else ():
        if (Path(record["path"]) / file).exists():  # weights may have been left out of a copy
            found.append(fail("files", f"{file} is not what the run wrote (its checksum differs)"))
    if record["config"].get("test", True) is False and any(key.startswith("test/") for key in record["metrics"]):
        found.append(fail("test", "it is a tuning run, and has read the test split"))
    try:
        rows = curve(record) if "path" in record else None
    except UsageError as error:
        return [*found, fail("curve", str(error))]
    if rows is not None:
        found += [fail("curve", message) for message in _against_curve(record, rows)]
    return found


def _against_curve(record: Finished, rows: Sequence[Mapping[str, float]]) -> Iterable[str]:
    """Where a record and its learning curve contradict each other."""
    if not rows:
        yield "it has no learning curve"
        return
    if any(key.startswith("test/") for key in rows[0]):
        yield "the test split was looked at during training"
    last = rows[-1]
    if last.get("grad_evals") != record["grad_evals"]:
        yield f"its curve ends with grad_evals {last.get('grad_evals'):.0f}, the record says {record['grad_evals']}"
    name = f"valid/{record['metric']['name']}"
    stated = record["metrics"].get(name)
    values = {row["epoch"]: row[name] for row in rows if not math.isnan(row.get(name, math.nan))}
    if stated is None or not values:
        return
    best = max(values.values()) if record["metric"]["higher_is_better"] else min(values.values())
    if not math.isclose(stated, best, rel_tol=1e-9):
        yield f"its {name} is {stated:.6g}, not the best of the curve ({best:.6g})"
    elif values.get(record["best_epoch"]) != best:
        yield f"its best epoch ({record['best_epoch']}) is not that of its best {name}"
