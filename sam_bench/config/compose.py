"""Turn the overrides of a command line into checked configurations (RunSpecs), with Hydra's composition."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sam_bench.api import RunSpec
from sam_bench.config import files, grid, own_file
from sam_bench.config.composer import ERRORS, Compose, Unknown, composer, explain, line, parse
from sam_bench.config.compositions import Compositions, Partial
from sam_bench.config.resolved import resolve, without_hydra
from sam_bench.config.rules import check, check_options
from sam_bench.errors import UsageError
from sam_bench.options.component import check_component
from sam_bench.store import studies
from sam_bench.store.identity import run_id

LABELS = ("dataset", "model", "base", "optimizer")


def make_spec(
    resolved: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str],
    composed: Compositions | None = None,
) -> RunSpec:  # fmt: skip
    """The cell of a resolved configuration (without Hydra's part) and the YAML stems in it; raises UsageError.

    `composed` remembers the sections that cells share, so that 10,000 cells of a grid take a second.
    """
    composed = Compositions() if composed is None else composed
    if missing := [group for group in LABELS if choices.get(group) is None]:
        raise UsageError(f"{missing[0]} is missing: choose one, {missing[0]}=NAME (optimizer=erm is the base alone).")
    labels = {group: choices[group] for group in LABELS}
    labels |= {"seed": resolved["seed"], "split_seed": resolved["split_seed"]}
    check(resolved, labels, composed.checked)
    typed = any(word.partition("=")[0].lstrip("+") == own_file.KEY for word in overrides)
    folder = Path.cwd() if typed else own_file.folder_of(choices) if resolved["dataset"].get("path") else Path()
    resolved = {**resolved, "dataset": own_file.known_by_content(resolved["dataset"], folder)}
    experiment = choices.get("experiment")
    experiment = None if experiment in (None, "null") else experiment
    return RunSpec(run_id(labels, resolved, composed.texts), labels, tuple(overrides), resolved, experiment)


def _choices_of(override: Override) -> list[Override]:
    if not override.is_sweep_override():
        return [override]
    try:
        values = list(override.sweep_string_iterator())
    except HydraException as error:
        raise UsageError(
            f"{line(override)}: this does not list values ({error}). List them: {override.key_or_group}=a,b,c."
        ) from None
    return parse([f"{override.get_key_element()}={value}" for value in values])


def _check_names(overrides: Sequence[Override], groups: set[str]) -> None:
    """Raise UsageError for a group that is not set to a name, where Hydra would end with a traceback."""
    for override in overrides:
        key, value = override.key_or_group, override.value()
        if key in groups and isinstance(value, list):
            words = ",".join(map(str, value))
            raise UsageError(f"{line(override)}: separate the values with commas, without brackets: {key}={words}.")
        if key == "experiment" and value in files.yaml_files("experiment"):
            grid.file_of(str(value))
        if key in groups and not override.is_delete() and not isinstance(value, str | dict):
            raise UsageError(
                f"{override.input_line} names no file: {key} must be one of {', '.join(files.yaml_files(key))}"
                + (", or be left out." if key == "experiment" else ".")
            )


def _cells(
    compose: Compose, fixed: Sequence[str], overrides: Sequence[Override], composed: Compositions | None = None,
    partial: Partial | None = None,
) -> Iterator[RunSpec]:  # fmt: skip
    """All combinations of the overrides' values; the last override varies fastest.

    Each choice of files is composed once. With `partial`, a key that a cell lacks is left out and noted there; without
    it, such a key is an error.
    """
    groups = set(GlobalHydra.instance().config_loader().list_groups(""))
    choices = [_choices_of(override) for override in overrides]
    _check_names([choice for axis in choices for choice in axis], groups)
    composed = Compositions() if composed is None else composed
    for combination in itertools.product(*choices):
        plain = {line(o): o for o in combination if o.type is OverrideType.CHANGE and o.key_or_group not in groups}
        files_of = [o for o in combination if line(o) not in plain]
        try:
            found = composed.of(compose, fixed, files_of)
            lacking = [text for text, o in plain.items() if not found.has(o.key_or_group)]
            if lacking and partial is None:
                raise OmegaConfBaseException(f"no such key: {lacking[0]}")
            lines = tuple(line(o) for o in combination if line(o) not in lacking)
            values = {o.key_or_group: o.value() for text, o in plain.items() if text not in lacking}
            if partial is not None:
                partial.note([o.key_or_group for o in plain.values()], found)
            yield make_spec(found.resolved(values), found.choices, (*fixed, *lines), composed)
        except ERRORS as error:
            raise explain(compose, [*fixed, *map(line, combination)], error) from None


def compose_specs(overrides: Sequence[str]) -> list[RunSpec]:
    """The cells of overrides, some of which may list values (`seed=0,1,2`); raises UsageError for a wrong one."""
    with composer() as compose:
        return list(_cells(compose, (), parse(overrides)))


def compose_each(requests: Sequence[Sequence[str]]) -> list[RunSpec]:
    """The cell of each list of overrides, each with one value; raises UsageError for a wrong one."""
    composed = Compositions()
    with composer() as compose:
        return [cell for words in requests for cell in _cells(compose, (), parse(words), composed)]


def plan(
    experiment: str | None, overrides: Sequence[str] = (), say: Callable[[str], None] = lambda text: None
) -> list[RunSpec]:
    """The cells of an experiment's grid (`hydra.sweeper.params`); an override replaces the axis of its name.

    A key that only some cells have, such as optimizer.rho next to erm, is set in those only; `say` is told which.
    Without an experiment: the cells of the overrides alone, as from `compose_specs`. The axis `tuned` is not a key of
    the configuration: it names tuning studies, whose values the cells use (null: no study). If the grid names a study
    and no override does, a cell stays as it is where an override sets a tuned key, or the study lacks its method.
    """
    with composer() as compose:
        name = [] if experiment is None else [f"experiment={experiment}"]
        if experiment is not None:
            _check_names(parse(name), {"experiment"})
        own = {} if experiment is None else grid.grid(compose, experiment)
        given = {o.get_key_element(): o for o in parse(overrides)}
        axes = {**own, **given}
        values = [choice.value() for choice in _choices_of(axes.pop("tuned"))] if "tuned" in axes else [None]
        chosen = [None if value is None else str(value) for value in values]
        partial, composed = Partial() if name else None, Compositions()
        try:
            cells = list(_cells(compose, name, list(axes.values()), composed, partial))
            if partial is not None:
                partial.check(say)
        except Unknown as error:
            if experiment is not None and axes.get(error.key) is own.get(error.key, ...):
                raise UsageError(f"{grid.place(experiment)}: {error}") from None
            raise
        asked = "tuned" in given
        unique = {cell.run_id: cell for study in chosen for cell in _tuned(compose, composed, cells, study, asked)}
    return list(unique.values())


def _tuned(
    compose: Compose, composed: Compositions, cells: Sequence[RunSpec], study: str | None, asked: bool
) -> Iterator[RunSpec]:
    """The cells, made from `composed`, with the values that a tuning study found for each.

    Raises UsageError where the study was `asked` for and a cell contradicts it, and for a tuning seed.
    """
    for cell in cells:
        if study is None or (not asked and not studies.has(study, cell.labels)):
            yield cell
            continue
        found = studies.find(study, cell.labels, cell.config)
        given = {override.key_or_group for override in parse(cell.overrides)} & found.space.keys()
        if given and not asked:
            yield cell
            continue
        if given:
            raise UsageError(f"{min(given)} was tuned by the study {study}: leave out either it or tuned={study}.")
        if cell.labels["seed"] in found.seeds:
            raise UsageError(
                f"seed {cell.labels['seed']} is a tuning seed of the study {study}. Choose other seeds for the final "
                "runs."
            )
        yield from _cells(compose, (), parse([*cell.overrides, *studies.words(found)]), composed)


def unpaired(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of overrides, without checking that its parts fit: the caller uses only one of them."""
    with composer() as compose:
        parsed = parse(overrides)
        _check_names(parsed, set(GlobalHydra.instance().config_loader().list_groups("")))
        if several := [line(override) for override in parsed if override.is_sweep_override()]:
            raise UsageError(f"{several[0]}: give one value here.")
        try:
            resolved = resolve(without_hydra(compose(list(overrides))))
        except ERRORS as error:
            raise explain(compose, overrides, error) from None
    check_options(resolved)
    return {**resolved, "dataset": own_file.known_by_content(resolved["dataset"], Path.cwd())}


def launcher_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """configs/launcher/`name`.yaml with overrides `launcher.key=value`; raises UsageError for any that is wrong."""
    with composer() as compose:
        words = [f"+launcher={name}", *overrides]
        try:
            config = resolve(compose(words).launcher)
        except ERRORS as error:
            raise explain(compose, words, error) from None
    check_component("launcher", config)
    return config


def _refuse_tuned_grid(experiment: str) -> None:
    """Raise UsageError if Hydra would have to read a grid that names a tuning study, which is no Hydra key."""
    with composer() as compose:
        if "tuned" in grid.grid(compose, experiment):
            raise UsageError(
                f"the grid of {experiment} names a tuning study, which Hydra cannot read. Use: sam-bench sweep "
                f"{experiment}"
            )


# -- the Hydra application -----------------------------------------------------------------------------------------


def application(arguments: Sequence[str], execute: Callable[[RunSpec], None]) -> None:
    """Run `execute` on the configuration of `arguments`, or with -m on each of a Hydra multirun."""
    parsed, unknown = get_args_parser().parse_known_intermixed_args(list(arguments))
    if unknown:
        raise UsageError(f"unknown option {unknown[0]}. Describe a run with key=value, for instance dataset=bbbp.")
    overrides = parsed.overrides  # before and after Hydra's flags
    cells = compose_specs([word for word in overrides if not word.startswith("hydra")])
    if len(cells) > 1 and not (parsed.multirun or any(word.startswith("hydra.mode=") for word in overrides)):
        raise UsageError(f"these are {len(cells)} runs. `sam-bench run -m` runs them one after the other.")
    for experiment in {cell.experiment for cell in cells if cell.experiment and parsed.multirun}:
        _refuse_tuned_grid(experiment)
    GlobalHydra.instance().clear()
    flags = [word for word in arguments if word not in overrides]
    sys.argv = ["sam-bench run", *overrides, *flags]  # Hydra itself sees no override after a flag
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # the command line decides what a user sees of an error

    @hydra.main(version_base="1.3", config_path=str(files.config_dir()), config_name="config")
    def one_run(config: Any) -> None:
        running = HydraConfig.get()
        execute(make_spec(resolve(without_hydra(config)), running.runtime.choices, running.overrides.task))

    one_run()
