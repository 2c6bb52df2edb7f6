"""From the words of a command line to checked configurations: overrides -> RunSpecs, by Hydra's composition."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sam_bench.api import RunSpec
from sam_bench.config import files
from sam_bench.config.resolved import Composed, resolve, without_hydra
from sam_bench.config.rules import check
from sam_bench.errors import UsageError, did_you_mean
from sam_bench.store import studies
from sam_bench.store.disk import checksum
from sam_bench.store.identity import run_id

LABELS = ("dataset", "model", "base", "optimizer")


# -- composing -----------------------------------------------------------------------------------------------------


class _UserFolders(SearchPathPlugin):
    """Tells Hydra of the user's folders; an override `hydra.searchpath` breaks on commas, quotes and equals signs."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in files.user_dirs():
            search_path.append("SAM_BENCH_CONFIGS", f"file://{folder}")


Compose = Callable[[Sequence[str]], DictConfig]


@contextmanager
def _composer() -> Iterator[Compose]:
    files.user_dirs()  # raises before Hydra begins
    GlobalHydra.instance().clear()
    Plugins.instance().register(_UserFolders)
    with hydra.initialize_config_dir(str(files.config_dir()), version_base="1.3", job_name="sam_bench"):
        yield lambda overrides: hydra.compose("config", list(overrides), return_hydra_config=True)


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        bad = next((o for o in overrides if "=" not in o), overrides[0])
        raise UsageError(f"cannot read the override {bad!r}: write key=value, for instance seed=1.\n{error}") from None


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def _explain(compose: Compose, overrides: Sequence[str], error: Exception) -> UsageError:
    """Say which override is wrong and what was probably meant."""
    broken = UsageError(f"cannot compose {' '.join(overrides) or 'the configuration'}: {error}")
    try:
        compose([])
    except (HydraException, OmegaConfBaseException):  # a YAML file is at fault, not an override
        return broken
    loader = GlobalHydra.instance().config_loader()
    groups = [g for g in loader.list_groups("") if g != "hydra"]
    good: list[str] = []
    for override in _parse(overrides):
        key, line = override.key_or_group, _line(override)
        if key in groups and override.value() is not None:
            options = loader.get_group_options(key)
            if str(override.value()) not in options:
                return UsageError(f"unknown {key} {override.value()!r}. {did_you_mean(str(override.value()), options)}")
        try:
            compose([*good, line])
        except (HydraException, OmegaConfBaseException):
            known = list(_keys(OmegaConf.to_container(without_hydra(compose(good)), resolve=False)))
            if key not in known:
                return UsageError(f"unknown key {key!r}. {did_you_mean(key, [*known, *groups])}")
            break
        good.append(line)
    return broken


def make_spec(resolved: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]) -> RunSpec:
    """The cell of a resolved configuration (without Hydra's part) and the YAML stems in it; raises UsageError."""
    labels = {group: choices[group] for group in LABELS}
    labels |= {"seed": resolved["seed"], "split_seed": resolved["split_seed"]}
    check(resolved, labels)
    resolved = {**resolved, "dataset": _known_by_content(resolved["dataset"])}
    experiment = choices.get("experiment")
    experiment = None if experiment in (None, "null") else experiment
    return RunSpec(run_id(labels, resolved), labels, tuple(overrides), resolved, experiment)


def _known_by_content(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """A file of the user's own is known by its bytes: the same file elsewhere is the same run, a changed one is not."""
    if "file_sha256" not in dataset or dataset["path"] is None:
        return dataset
    path = Path(str(dataset["path"])).expanduser().absolute()
    try:
        actual = checksum(path)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if dataset["file_sha256"] not in (None, actual):
        raise UsageError(f"{path} has changed (sha256 {actual}). Leave dataset.file_sha256 out to use it as it is.")
    if isinstance(dataset.get("targets"), str | int):  # y and [y] are one run
        dataset = {**dataset, "targets": [dataset["targets"]]}
    return {**dataset, "file_sha256": actual}


def _choices_of(override: Override) -> list[Override]:
    if not override.is_sweep_override():
        return [override]
    try:
        values = list(override.sweep_string_iterator())
    except HydraException as error:
        raise UsageError(f"{override.input_line}: {error}. Write the values: {override.key_or_group}=a,b,c.") from None
    return _parse([f"{override.get_key_element()}={value}" for value in values])


def _line(override: Override) -> str:
    """The override as it was typed."""
    return cast(str, override.input_line)  # None only where Hydra's sweepers make one


def _check_names(overrides: Sequence[Override], groups: set[str]) -> None:
    """Raise UsageError for a group that is set to no name: Hydra ends with a traceback there."""
    for override in overrides:
        key, value = override.key_or_group, override.value()
        if key in groups and not override.is_delete() and not isinstance(value, str | list | dict):
            raise UsageError(
                f"{override.input_line} names no file: {key} must be one of {', '.join(files.yaml_files(key))}"
                + (", or be left out." if key == "experiment" else ".")
            )


def _cells(
    compose: Compose, fixed: Sequence[str], overrides: Sequence[Override],
    composed: dict[tuple[str, ...], Composed] | None = None,
) -> Iterator[RunSpec]:  # fmt: skip
    """All combinations of the overrides' choices, the last override fastest; composed once per choice of files."""
    groups = set(GlobalHydra.instance().config_loader().list_groups(""))
    choices = [_choices_of(override) for override in overrides]
    _check_names([choice for axis in choices for choice in axis], groups)
    composed = {} if composed is None else composed
    for combination in itertools.product(*choices):
        lines = [_line(o) for o in combination]
        plain = [o.type is OverrideType.CHANGE and o.key_or_group not in groups for o in combination]
        chosen = tuple(line for line, is_plain in zip(lines, plain, strict=True) if not is_plain)
        try:
            if chosen not in composed:  # with these values, so that Hydra judges their keys
                composed[chosen] = Composed(compose([*fixed, *lines]))
            values = {o.key_or_group: o.value() for o, is_plain in zip(combination, plain, strict=True) if is_plain}
            yield make_spec(composed[chosen].resolved(values), composed[chosen].choices, (*fixed, *lines))
        except (HydraException, OmegaConfBaseException) as error:
            raise _explain(compose, [*fixed, *lines], error) from None


def compose_specs(overrides: Sequence[str]) -> list[RunSpec]:
    """The cells of overrides, of which some may be lists (`seed=0,1,2`); raises UsageError for any that is wrong."""
    with _composer() as compose:
        return list(_cells(compose, (), _parse(overrides)))


def compose_each(requests: Sequence[Sequence[str]]) -> list[RunSpec]:
    """The cell of each list of overrides, none of which has several values; raises UsageError for any that is wrong."""
    composed: dict[tuple[str, ...], Composed] = {}
    with _composer() as compose:
        return [cell for words in requests for cell in _cells(compose, (), _parse(words), composed)]


def plan(experiment: str | None, overrides: Sequence[str] = ()) -> list[RunSpec]:
    """The cells of an experiment: its grid (`hydra.sweeper.params`), each axis replaced by an override of that name.

    Without an experiment: the cells of the overrides alone, as `compose_specs` makes them.
    The axis `tuned` is no key of the configuration: it names tuning studies, whose values each cell takes on (null:
    the cell as it is).
    """
    with _composer() as compose:
        name = [] if experiment is None else [f"experiment={experiment}"]
        _check_names(_parse(name), {"experiment"})
        try:
            grid = resolve(compose(name).hydra.sweeper.params or OmegaConf.create({}))
        except (HydraException, OmegaConfBaseException) as error:
            raise _explain(compose, name, error) from None
        axes = {o.get_key_element(): o for o in _parse([f"{key}={value}" for key, value in grid.items()])}
        axes |= {o.get_key_element(): o for o in _parse(overrides)}
        values = [choice.value() for choice in _choices_of(axes.pop("tuned"))] if "tuned" in axes else [None]
        chosen = [None if value is None else str(value) for value in values]
        cells = list(_cells(compose, name, list(axes.values())))
        unique = {cell.run_id: cell for study in chosen for cell in _tuned(compose, cells, study)}
    return list(unique.values())


def _tuned(compose: Compose, cells: Sequence[RunSpec], study: str | None) -> Iterator[RunSpec]:
    """The same cells with the values that a tuning study found for each; raises UsageError where they contradict it."""
    composed: dict[tuple[str, ...], Composed] = {}
    for cell in cells:
        if study is None:
            yield cell
            continue
        found = studies.find(study, cell.labels, cell.config)
        given = {override.key_or_group for override in _parse(cell.overrides)} & found.space.keys()
        if given:
            raise UsageError(f"{min(given)} was tuned by the study {study}: leave it out, or leave tuned={study} out.")
        if cell.labels["seed"] in found.seeds:
            raise UsageError(
                f"seed {cell.labels['seed']} is a tuning seed of the study {study}: the final runs need others."
            )
        yield from _cells(compose, (), _parse([*cell.overrides, *studies.words(found)]), composed)


def launcher_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """configs/launcher/`name`.yaml with overrides `launcher.key=value`; raises UsageError for any that is wrong."""
    with _composer() as compose:
        words = [f"+launcher={name}", *overrides]
        try:
            return resolve(compose(words).launcher)
        except (HydraException, OmegaConfBaseException) as error:
            raise _explain(compose, words, error) from None


# -- the Hydra application -----------------------------------------------------------------------------------------


def application(arguments: Sequence[str], execute: Callable[[RunSpec], None]) -> None:
    """Run `execute` on the configuration of `arguments`, or with -m on each of a Hydra multirun."""
    parsed, unknown = get_args_parser().parse_known_intermixed_args(list(arguments))
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]}: what a run consists of is written key=value, for instance dataset=bbbp."
        )
    overrides = parsed.overrides  # before and after Hydra's flags
    cells = compose_specs([word for word in overrides if not word.startswith("hydra")])
    if len(cells) > 1 and not (parsed.multirun or any(word.startswith("hydra.mode=") for word in overrides)):
        raise UsageError(f"these are {len(cells)} runs: `sam-bench run -m` makes one after the other.")
    GlobalHydra.instance().clear()
    flags = [word for word in arguments if word not in overrides]
    sys.argv = ["sam-bench run", *overrides, *flags]  # Hydra itself sees no override after a flag
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # the command line decides what a user sees of an error

    @hydra.main(version_base="1.3", config_path=str(files.config_dir()), config_name="config")
    def one_run(config: Any) -> None:
        running = HydraConfig.get()
        execute(make_spec(resolve(without_hydra(config)), running.runtime.choices, running.overrides.task))

    one_run()
