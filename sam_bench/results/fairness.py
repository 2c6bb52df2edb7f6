"""What makes an experiment's numbers weaker than they look: findings of level `warn`, and the marks of tables."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sam_bench.api import Finished, Record
from sam_bench.results.arms import BASE_ARM, Arm, Block
from sam_bench.results.stats import ENOUGH_SEEDS, summary

SKIPPED = 0.01  # of the steps: fp16 looks for its loss scale with the first few
T = TypeVar("T")
DISTURBED = 0.25  # relative: other work on the machine, not the method, makes timings differ by so much


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: which check, how bad, in words, and the runs that it concerns."""

    check: str
    level: str
    message: str
    runs: tuple[str, ...]


def doubts(found: Sequence[Block], runs: Sequence[Finished]) -> list[Finding]:
    """All of them about these blocks and their finished runs."""
    of_runs, of_machines = (_unverified, _short, _skipped, _code), (_arithmetic, _threads, _hardware, _timings)
    about_runs = [finding for check in of_runs for finding in check(runs)]
    about_machines = [finding for check in of_machines for finding in check(found)]
    return [*about_runs, *_variants(found), *_few_seeds(found), *about_machines]


def _unverified(runs: Sequence[Finished]) -> Iterable[Finding]:
    runs = [run for run in runs if not run["data"]["verified"]]
    for dataset in sorted({str(run["labels"]["dataset"]) for run in runs}):
        names = names_of(run for run in runs if str(run["labels"]["dataset"]) == dataset)
        yield Finding(
            "data",
            "warn",
            f"{dataset}: {_count(names)} used data that could not be verified",
            names,
        )


def _short(runs: Sequence[Finished]) -> Iterable[Finding]:
    names = names_of(run for run in runs if run.get("short"))
    if names:
        yield Finding("short", "warn", f"{_count(names)} cut short by train.max_steps", names)


def _skipped(runs: Sequence[Finished]) -> Iterable[Finding]:
    many = [run for run in runs if run.get("skipped_steps", 0) > SKIPPED * max(1, run.get("steps", 0))]
    if many:
        worst = max(many, key=lambda run: run["skipped_steps"] / max(1, run["steps"]))
        message = (
            f"{_count(many)} skipped more than {SKIPPED:.0%} of the steps, because a loss or gradient was not finite "
        )
        message += f"(at most {worst['skipped_steps']} of {worst['steps']}): try a smaller base.lr or precision=fp32"
        yield Finding("skipped", "warn", message, names_of(many))


def _variants(found: Sequence[Block]) -> Iterable[Finding]:
    """Methods with more variants than their base arm: to take the best of them is tuning on the test split.

    Each variant is a trial, and what sets the variants apart is the space that was searched.
    """
    for block in found:
        counts = _kinds([arm.labels for arm in block.arms], lambda labels: str(labels["optimizer"]))
        several = {name: count for name, count in counts.items() if count > counts.get(BASE_ARM, count)}
        if several:
            tried = {
                f"{name} ({'; '.join(arm.variant for arm in block.arms if arm.labels['optimizer'] == name)})": count
                for name, count in several.items()
            }
            message = f"{block.title}: more variants than of {BASE_ARM} ({counts[BASE_ARM]}): {_listed(tried)}; "
            message += "the best of them, chosen here, would be tuned on the test split"
            runs = [run for arm in block.arms if arm.labels["optimizer"] in several for run in arm.runs]
            yield Finding("tuning", "warn", message, names_of(runs))


def _few_seeds(found: Sequence[Block]) -> Iterable[Finding]:
    for block in found:
        few = [arm for arm in block.arms if arm.versus is not None and arm.versus.too_few]
        if few:
            least = min(arm.versus.n for arm in few if arm.versus)
            message = f"{block.title}: too few seeds ({least}) for {', '.join(arm.name for arm in few)}; "
            message += f"{ENOUGH_SEEDS} are needed"
            yield Finding("seeds", "warn", message, tuple(name for arm in few for name in names_of(arm.runs)))
        pairs = [(arm, arm.base) for arm in block.arms if arm.base and arm.runs]
        pairs = [(arm, base) for arm, base in pairs if arm.scores.keys() != base.scores.keys()]
        if pairs:
            message = f"{block.title}: only common seeds are compared, {', '.join(arm.name for arm, _ in pairs)} and "
            message += f"{pairs[0][1].name} do not have the same"
            yield Finding("seeds", "warn", message, tuple(name for arm, _ in pairs for name in names_of(arm.runs)))


def _code(runs: Sequence[Finished]) -> Iterable[Finding]:
    dirty = names_of(run for run in runs if run["provenance"].get("dirty"))
    if dirty:
        yield Finding("commit", "warn", f"{_count(dirty)} made from changed code (dirty commit)", dirty)
    commits = _kinds(runs, _commit)
    if len(commits) > 1:
        yield Finding("commit", "warn", f"runs come from {len(commits)} commits: {_listed(commits)}", names_of(runs))
    for module, count in Counter(module for module, _ in {part for run in runs for part in _own_code(run)}).items():
        if count > 1:
            mine = names_of(run for run in runs if module in dict(_own_code(run)))
            yield Finding("commit", "warn", f"runs were made with {count} versions of {module}", mine)
    versions = _kinds(runs, lambda run: json.dumps(run["provenance"].get("versions"), sort_keys=True))
    if len(versions) > 1:
        seen = [json.loads(version) or {} for version in versions]
        keys = sorted(key for key in set().union(*seen) if len({version.get(key) for version in seen}) > 1)
        yield Finding(
            "versions", "warn", f"runs were made with different versions of {', '.join(keys)}", names_of(runs)
        )


def _hardware(found: Sequence[Block]) -> Iterable[Finding]:
    for block in found:
        runs = [run for arm in block.arms for run in arm.runs]
        kinds = _kinds(runs, lambda run: _machine(run["provenance"].get("hardware", {})))
        if len(kinds) > 1:
            message = f"{block.title}: timings come from {len(kinds)} kinds of hardware: {_listed(kinds)}"
            yield Finding("hardware", "warn", message, names_of(runs))


def _arithmetic(found: Sequence[Block]) -> Iterable[Finding]:
    for block in found:
        for arm in block.arms:
            if mixed_arithmetic(arm):
                runs = [*arm.runs, *(arm.base.runs if arm.base else ())]
                message = f"{block.title}: {arm.name} and its base arm were computed in several ways: "
                yield Finding("precision", "warn", message + _listed(_kinds(runs, _computed)), names_of(arm.runs))


def _threads(found: Sequence[Block]) -> Iterable[Finding]:
    for block in found:
        for arm in block.arms:
            if len(_of_comparison(arm, "threads", _on_threads) - {"a GPU"}) > 1:
                runs = [*arm.runs, *(arm.base.runs if arm.base else ())]
                message = f"{block.title}: {arm.name} and its base arm were computed with several numbers of threads, "
                message += "which give the same seed other bits: "
                yield Finding("threads", "warn", message + _listed(_kinds(runs, _on_threads)), names_of(arm.runs))


def _on_threads(run: Mapping) -> str:
    """`2 threads`; on a GPU the threads of the processor change nothing."""
    hardware = run["provenance"].get("hardware", {})
    return f"{hardware.get('threads')} threads" if hardware.get("device") == "cpu" else "a GPU"


def mixed_arithmetic(arm: Arm) -> bool:
    """Whether an arm and its base arm were computed in different precisions, or only some runs of them compiled."""
    return len(_of_comparison(arm, "computed", _computed)) > 1


def _computed(run: Finished) -> str:
    """`bf16, compiled`: what a record says it was, or, before it did, what its configuration says."""
    precision = run["provenance"].get("precision") or run["config"].get("precision", "fp32")
    return f"{precision}, compiled" if run["provenance"].get("compiled") else precision


def disturbed(arm: Arm) -> str:
    """Why an arm's timings cannot be trusted or compared, "" where nothing speaks against them."""
    if _of_comparison(arm, "cells on a GPU", _cells_on_gpu) - {1}:
        return "several cells shared a GPU"
    machines = _of_comparison(arm, "machines", lambda run: _machine(run["provenance"].get("hardware", {})))
    if len(machines) > 1:
        return f"they come from {len(machines)} kinds of hardware"
    if mixed_arithmetic(arm):
        return "their runs were computed in several ways"
    speeds = summary([speed for run in arm.runs if (speed := run.get("throughput"))])
    if speeds.n > 1 and speeds.std > DISTURBED * speeds.mean:
        return f"its runs differ in throughput by {100 * speeds.std / speeds.mean:.0f} % (standard deviation)"
    if arm.base is not None:
        passes = arm.cost("grad_evals_per_step") / arm.base.cost("grad_evals_per_step")
        if arm.relative_throughput * passes > 1 + DISTURBED:
            return f"{arm.relative_throughput:.2f} times {arm.base.name}'s speed is more than {passes:.2f} passes allow"
    return ""


def mixed_code(arm: Arm) -> bool:
    """Whether an arm and its base arm were made from different commits, or from changed code."""
    commits = _of_comparison(arm, "commits", _commit)
    own = {part for parts in _of_comparison(arm, "own code", _own_code) for part in cast(OwnCode, parts)}
    if len(own) > len({module for module, _ in own}):
        return True
    return len(commits) > 1 or True in _of_comparison(arm, "dirty", lambda run: bool(run["provenance"].get("dirty")))


def _of_comparison(arm: Arm, name: str, key: Callable[[Finished], Hashable]) -> set[Hashable]:
    """All values of `key` in the runs of an arm and of the base arm that it is compared to."""
    for part in filter(None, (arm, arm.base)):
        if name not in part.memo:
            part.memo[name] = {key(run) for run in part.runs}
    values: set[Hashable] = arm.memo[name] | (arm.base.memo[name] if arm.base is not None else set())
    return values


OwnCode = tuple[tuple[str, str], ...]


def _own_code(run: Finished) -> OwnCode:
    """(module, checksum) of the code outside this package."""
    return tuple(sorted(run["provenance"].get("own_code", {}).items()))


def _commit(run: Finished) -> str:
    return str(run["provenance"].get("commit"))[:10]


def _timings(found: Sequence[Block]) -> Iterable[Finding]:
    for block in found:
        for arm in block.arms:
            reason = disturbed(arm) if arm.runs else ""
            if reason:
                message = f"{block.title}: the timings of {arm.name} or its base arm cannot be compared: {reason}"
                yield Finding("timings", "warn", message, names_of(arm.runs))


def _cells_on_gpu(run: Finished) -> int:
    return run["provenance"].get("hardware", {}).get("cells_on_gpu", 1)


def _machine(hardware: Mapping[str, Any]) -> str:
    return f"{hardware.get('name')} ({hardware.get('device')}, {hardware.get('threads')} threads)"


def _kinds(runs: Iterable[T], key: Callable[[T], str]) -> dict[str, int]:
    """How often each value of `key` occurs, the most frequent first."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[key(run)] = counts.get(key(run), 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x {count}" for name, count in kinds.items())


def _count(names: Sequence[object]) -> str:
    return "1 run" if len(names) == 1 else f"{len(names)} runs"


def names_of(runs: Iterable[Record]) -> tuple[str, ...]:
    """The run ids."""
    return tuple(run["run_id"] for run in runs)
