"""Where tuned options come from: the studies behind the arms of a table, and whether they say what the runs used."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sam_bench.errors import UsageError
from sam_bench.results.arms import Arm, Block
from sam_bench.results.fairness import Finding, names_of
from sam_bench.store import studies
from sam_bench.store.studies import NAMES, Tuning


def origins(arms: Sequence[Arm]) -> str:
    """`Options: ...`: which arms were tuned, by how many trials in which study, and which have the defaults."""
    named: dict[str, list[str]] = {}
    for arm in arms:
        text = f"{arm.origin}, study {arm.tuned['study']}" if arm.tuned else arm.origin
        named.setdefault(text, []).append(arm.name)
    if len(named) == 1:
        (text,) = named
        return f"Options: {text.replace(' trials)', ' trials of every method)')}."
    return "Options: " + "; ".join(f"{text}: {', '.join(names)}" for text, names in named.items()) + "."


def tunings(block: Block) -> list[Tuning]:
    """The arms of the studies that the arms of a block were tuned in; [] where they are not at hand."""
    found: list[Tuning] = []
    for study in dict.fromkeys(arm.tuned["study"] for arm in block.arms if arm.tuned):
        try:
            arms = studies.load(study)
        except UsageError:
            continue
        place = {"dataset": block.dataset, "model": block.model, "base": block.base}
        found += [arm for arm in arms if all(arm.labels[key] == str(value) for key, value in place.items())]
    names = list(dict.fromkeys(str(arm.labels["optimizer"]) for arm in block.arms))
    order = {name: place for place, name in enumerate(names)}
    return sorted(found, key=lambda arm: order.get(arm.labels["optimizer"], len(order)))


def provenance(found: Sequence[Block]) -> list[Finding]:
    """Findings about tuned arms: a study that is missing or was changed, options that are not those of its winner."""
    return [finding for block in found for arm in block.arms if arm.tuned for finding in _judged(block, arm)]


def _judged(block: Block, arm: Arm) -> Iterable[Finding]:
    runs, mark = arm.runs or arm.failed, arm.tuned or {}
    labels: Mapping[str, object] = arm.labels
    name = f"{block.title}: {arm.name}"

    def finding(level: str, message: str) -> Finding:
        return Finding("tuning", level, f"{name}: {message}", names_of(runs))

    try:
        candidates = [tuning for tuning in studies.load(mark["study"]) if tuning.digest == mark["hash"]]
    except UsageError as error:
        yield finding("warn", f"its tuning cannot be checked: {error}")
        return
    if not candidates or any(candidates[0].labels[key] != str(labels[key]) for key in NAMES):
        yield finding("fail", f"the study {mark['study']} has changed since its options were taken ({mark['hash']})")
        return
    tuning = candidates[0]
    yield from (finding(level, message) for level, message in _against(tuning, mark, runs[0]["config"]))


def _against(tuning: Tuning, mark: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Where a run and the study of its options contradict each other."""
    if mark != tuning.mark:
        yield "fail", f"its record and the study {tuning.study} state different trials or keys"
    winner = tuning.winner
    used = {key: config[key.partition(".")[0]].get(key.partition(".")[2]) for key in tuning.space}
    if winner is None or any(used[key] != value for key, value in winner.values.items()):
        yield "fail", f"its options are not the winner's of the study {tuning.study}"
    if tuning.recipe != studies.recipe(config, list(tuning.space)):
        yield "warn", f"the study {tuning.study} was made with other options besides those that it tuned"
    for key in tuning.edges:
        yield "warn", f"the best {key} lies at the end of its range: widen it in configs/search and tune again"
