"""`sam-bench check`."""

import argparse
import shutil
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_bench.api import Engine
from sam_bench.commands.words import add_json, need_bench, need_folder, put_json
from sam_bench.config import files
from sam_bench.errors import UsageError
from sam_bench.store import places

if TYPE_CHECKING:
    from sam_bench.contract.result import Report

KINDS = ("optimizer", "model", "dataset", "launcher")
SMALL_DATA = {"molecule": "chembl2321810", "image": "digits"}  # for a model: what needs no download
NO_OP = ("dataset=digits", "model=fastnet_tiny", "optimizer=erm", "train.max_steps=1", "train.epochs=1", "device=cpu")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "check", help="check that an optimizer, model, data set or launcher keeps its promises",
        description="Tests one component against the contract (docs/check.md), which lists what a component must do. "
        "Name it as optimizer=NAME, model=NAME, dataset=NAME or launcher=NAME, where NAME is a YAML of your own "
        "(SAM_BENCH_CONFIGS) or of this package. Overrides such as optimizer.rho=0.1 may follow. Exit status: 0 if "
        "all points hold, 1 if one fails, 2 for a wrong request.",
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="KIND=NAME", help="the component to check, then overrides")
    parser.add_argument(
        "--target", metavar="PACKAGE.CLASS",
        help="check an optimizer class or an adapter instead of a YAML; its options follow as key=value",
    )  # fmt: skip
    add_json(parser)
    parser.add_argument("--no-cost", action="store_true", help="do not measure the time and memory of an optimizer")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="wait this long for a launcher's job (default: 600)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check one component and print the report."""
    need_bench()
    from sam_bench.config.build import trust_current_folder

    trust_current_folder()
    words = list(arguments.overrides)
    if arguments.target:
        report = _target(arguments.target, words, not arguments.no_cost)
    else:
        kind, name = _asked(words)
        report = _CHECKS[kind](name, words, arguments)
    if arguments.json:
        put_json(report.as_dict(), arguments.json)
    if arguments.json != "-":
        print(shown(report))
    return 0 if report.passed else 1


def _asked(words: Sequence[str]) -> tuple[str, str]:
    """The kind and the name that the first word asks for."""
    kind, separator, name = (words[0] if words else "").partition("=")
    if kind not in KINDS or not separator or not name:
        raise UsageError(
            "say first what to check: sam-bench check optimizer=NAME, model=NAME, dataset=NAME, launcher=NAME, or "
            "--target PACKAGE.CLASS."
        )
    if "," in name:
        raise UsageError(f"{words[0]}: check takes one {kind} at a time.")
    return kind, name


# -- what is checked -------------------------------------------------------------------------------------------------


def _target(path: str, words: Sequence[str], cost: bool) -> "Report":
    """An optimizer by its import path, with options as `key=value`."""
    import yaml

    from sam_bench.contract.subject import Subject

    if wrong := [word for word in words if "=" not in word]:
        raise UsageError(f"{wrong[0]!r} is no option of {path}: write key=value, for instance rho=0.1.")
    target = _imported("--target", path, " Start from the folder that holds it.")
    options = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words)}
    return _optimizer_report(Subject.of(target, path.rpartition(".")[2], options), cost)


def _imported(asked: str, path: str, hint: str = "") -> Any:
    from sam_bench.config.build import imported

    try:
        return imported(path)
    except Exception as error:  # whatever the module raises while it is imported
        told = f"{type(error).__name__}: {error}"
        raise UsageError(f"{asked} {path} cannot be imported: {told}.{hint}") from error


def _optimizer(name: str, words: Sequence[str], arguments: argparse.Namespace) -> "Report":
    from sam_bench.config.compose import unpaired
    from sam_bench.contract.subject import Subject

    config = dict(unpaired(words)["optimizer"])  # the contract chooses the base optimizers itself
    target = _imported(f"optimizer {name}:", config.pop("_target_"))
    asked = {word.partition("=")[0].removeprefix("optimizer.") for word in words if word.startswith("optimizer.")}
    options = {key: value for key, value in config.items() if key in asked}
    return _optimizer_report(Subject.of(target, name, options, config), not arguments.no_cost)


def _optimizer_report(subject: Any, cost: bool) -> "Report":
    from dataclasses import replace

    from sam_bench.contract.optimizers import check

    report = check(subject)
    if not cost:
        return report
    if not report.passed:
        return replace(report, measured={"cost": "not measured, because a point failed"})
    from sam_bench.contract.cost import measured

    return replace(report, measured=measured(subject))


def _model(name: str, words: Sequence[str], arguments: argparse.Namespace) -> "Report":
    from sam_bench.config.compose import compose_specs
    from sam_bench.contract import model_subject, models

    if not any(word.startswith("dataset=") for word in words):
        words = [*words, f"dataset={_small_data(name)}"]
    cells = compose_specs(words)
    if len(cells) > 1:
        raise UsageError(f"{' '.join(words)}: these are {len(cells)} configurations; check takes one.")
    subject = model_subject.of_config(cells[0].config, name, places.data_dir())
    subject.built()  # a mistake in the YAML is a wrong request, and no failed point
    return models.check(subject)


def _small_data(name: str) -> str:
    """The default data set for checking a model; raises UsageError if no default fits the model."""
    accepts = files.read_component("model", name).get("accepts") or []
    if (kind := next((kind for kind in accepts if kind in SMALL_DATA), None)) is not None:
        return SMALL_DATA[kind]
    fitting = [stem for stem, config in files.read_group("dataset").items() if config.get("modality") in accepts]
    raise UsageError(
        f"model {name} reads {' and '.join(accepts) or 'nothing (its YAML has no `accepts`)'}: say which data to check "
        f"it on, dataset=NAME. Data sets that fit: {', '.join(fitting) or 'none'}."
    )


def _dataset(name: str, words: Sequence[str], arguments: argparse.Namespace) -> "Report":
    from sam_bench.config.compose import unpaired
    from sam_bench.contract import datasets

    return datasets.check(datasets.of_config(unpaired(words), name, places.data_dir()))


def _launcher(name: str, words: Sequence[str], arguments: argparse.Namespace) -> "Report":
    from sam_bench.config.build import build_engine
    from sam_bench.config.compose import compose_specs, launcher_config
    from sam_bench.contract.launchers import launcher_contract
    from sam_bench.sweeps.engines import local

    (cell,) = compose_specs(NO_OP)
    need_folder(places.results_dir())
    places.results_dir().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="check-", dir=places.results_dir()))  # a folder that all nodes see
    try:
        if name == "local" and words[1:]:
            raise UsageError(f"{words[1]}: launcher=local has no options.")
        if name == "local":
            engine: Engine = local.LocalEngine(folder, local.slots([cell], 1, 1))
        else:
            engine = build_engine(launcher_config(name, words[1:]), folder, 1)
        return launcher_contract(name, engine, cell, folder, seconds=arguments.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_CHECKS = {"optimizer": _optimizer, "model": _model, "dataset": _dataset, "launcher": _launcher}


# -- the report as text ----------------------------------------------------------------------------------------------


def shown(report: "Report") -> str:
    """The table of the points with advice for those that fail, the cost, and the badge."""
    width = max(60, min(shutil.get_terminal_size().columns, 140))
    lines = [f"{report.kind} {report.name}: sam_bench contract {report.version}", ""]
    for result in report.results:
        lines.append(f"{result.point:>3}  {result.verdict:<15} {result.title}")
        said = [result.seen, *([f"-> {result.advice}"] if result.advice else [])]
        for text in said:
            lines += textwrap.wrap(text, width, initial_indent=" " * 21, subsequent_indent=" " * 21)
    if report.measured:
        lines += ["", *_cost(report.measured)]
    return "\n".join([*lines, "", report.badge])


def _cost(measured: Mapping[str, Any]) -> list[str]:
    """One line for each measurement; for a list the median, the smallest and the largest value."""
    import statistics

    def word(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], float):
            return f"{statistics.median(value):.3g} ({min(value):.3g} to {max(value):.3g})"
        return (
            f"{value:.4g}" if isinstance(value, float) else "; ".join(value) if isinstance(value, list) else str(value)
        )

    return [
        f"     {key.replace('_', ' ')}: {word(value)}" for key, value in measured.items() if value not in ([], None)
    ]
