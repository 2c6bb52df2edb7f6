"""From the words of a command line to checked configurations: overrides -> RunSpecs, by Hydra's composition."""

import copy
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sam_bench.api import RunSpec
from sam_bench.config import files
from sam_bench.config.rules import check
from sam_bench.errors import UsageError, did_you_mean
from sam_bench.store.disk import checksum
from sam_bench.store.identity import run_id

LABELS = ("dataset", "model", "base", "optimizer")


# -- composing -----------------------------------------------------------------------------------------------------


def _searchpath() -> list[str]:
    """Folders of the user's own YAML files, as Hydra wants to hear of them."""
    folders = [Path(folder).expanduser().absolute() for folder in files.extra_config_dirs()]
    return [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders)}]"] if folders else []


@contextmanager
def _composer() -> Iterator[Callable[[Sequence[str]], Any]]:
    GlobalHydra.instance().clear()
    extra = _searchpath()
    with hydra.initialize_config_dir(str(files.config_dir()), version_base="1.3", job_name="sam_bench"):
        yield lambda overrides: hydra.compose("config", [*extra, *overrides], return_hydra_config=True)


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


def _explain(compose: Callable, overrides: Sequence[str], error: Exception) -> UsageError:
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
        key = override.key_or_group
        if key in groups and override.value() is not None:
            options = loader.get_group_options(key)
            if str(override.value()) not in options:
                return UsageError(f"unknown {key} {override.value()!r}. {did_you_mean(str(override.value()), options)}")
        try:
            compose([*good, override.input_line])
        except (HydraException, OmegaConfBaseException):
            known = list(_keys(OmegaConf.to_container(_without_hydra(compose(good)), resolve=False)))
            if key not in known:
                return UsageError(f"unknown key {key!r}. {did_you_mean(key, [*known, *groups])}")
            break
        good.append(override.input_line)
    return broken


def _without_hydra(config: Any) -> Any:
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def make_spec(resolved: Mapping, choices: Mapping[str, str], overrides: Sequence[str]) -> RunSpec:
    """The cell of a resolved configuration (without Hydra's part) and the YAML stems in it; raises UsageError."""
    labels = {group: choices[group] for group in LABELS}
    labels |= {"seed": resolved["seed"], "split_seed": resolved["split_seed"]}
    check(resolved, labels, files.config_dirs())
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
    return {**dataset, "file_sha256": actual}


def _resolve(config: Any) -> dict:
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


class _Composed:
    """A configuration in which plain values are set again and again; Hydra takes a tenth of a second to compose one.

    Resolving costs milliseconds too, so what is set and what refers to it are replaced in the first resolved one.
    """

    def __init__(self, whole: Any):
        self.config, self.choices = _without_hydra(whole), dict(whole.hydra.runtime.choices)
        self._referring = list(_references(OmegaConf.to_container(self.config, resolve=False)))
        self._first: dict | None = None

    def resolved(self, values: Mapping[str, Any]) -> dict:
        """The configuration with these values, always of the same keys."""
        nested = (isinstance(value, dict | list) or "${" in str(value) for value in values.values())
        simple = not any(nested) and not any("[" in key for key in values)
        config = self.config if simple else copy.deepcopy(self.config)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        if not simple:
            return _resolve(config)
        if self._first is None:
            self._first = _resolve(config)
        found = self._first
        for key, value in values.items():
            found = _replaced(found, key, value)
        for key in self._referring:
            value = OmegaConf.select(config, key)
            found = _replaced(found, key, _resolve(value) if OmegaConf.is_config(value) else value)
        return found


def _references(node: Mapping, prefix: str = "") -> Iterator[str]:
    """The keys whose values refer to others, `split_seed: ${seed}`."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _references(value, f"{prefix}{key}.")
        elif "${" in str(value):
            yield f"{prefix}{key}"


def _replaced(config: Mapping, key: str, value: Any) -> dict:
    """The same configuration with another value; what does not change is shared."""
    first, _, rest = key.partition(".")
    return {**config, first: _replaced(config[first], rest, value) if rest else value}


def _choices_of(override: Override) -> list[Override]:
    if not override.is_sweep_override():
        return [override]
    try:
        values = list(override.sweep_string_iterator())
    except HydraException as error:
        raise UsageError(f"{override.input_line}: {error}. Write the values: {override.key_or_group}=a,b,c.") from None
    return _parse([f"{override.get_key_element()}={value}" for value in values])


def _cells(compose: Callable, fixed: Sequence[str], overrides: Sequence[Override]) -> Iterator[RunSpec]:
    """All combinations of the overrides' choices, the last override fastest; composed once per choice of files."""
    groups = set(GlobalHydra.instance().config_loader().list_groups(""))
    composed: dict[tuple[str, ...], _Composed] = {}
    for combination in itertools.product(*(_choices_of(override) for override in overrides)):
        lines = [o.input_line for o in combination]
        plain = [o.type is OverrideType.CHANGE and o.key_or_group not in groups for o in combination]
        files = tuple(line for line, is_plain in zip(lines, plain, strict=True) if not is_plain)
        try:
            if files not in composed:  # with these values, so that Hydra judges their keys
                composed[files] = _Composed(compose([*fixed, *lines]))
            values = {o.key_or_group: o.value() for o, is_plain in zip(combination, plain, strict=True) if is_plain}
            yield make_spec(composed[files].resolved(values), composed[files].choices, (*fixed, *lines))
        except (HydraException, OmegaConfBaseException) as error:
            raise _explain(compose, [*fixed, *lines], error) from None


def compose_specs(overrides: Sequence[str]) -> list[RunSpec]:
    """The cells of overrides, of which some may be lists (`seed=0,1,2`); raises UsageError for any that is wrong."""
    with _composer() as compose:
        return list(_cells(compose, (), _parse(overrides)))


def plan(experiment: str, overrides: Sequence[str] = ()) -> list[RunSpec]:
    """The cells of an experiment: its grid (`hydra.sweeper.params`), each axis replaced by an override of that name."""
    with _composer() as compose:
        name = [f"experiment={experiment}"]
        try:
            grid = OmegaConf.to_container(compose(name).hydra.sweeper.params or OmegaConf.create({}))
        except (HydraException, OmegaConfBaseException) as error:
            raise _explain(compose, name, error) from None
        axes = {o.get_key_element(): o for o in _parse([f"{key}={value}" for key, value in grid.items()])}
        axes |= {o.get_key_element(): o for o in _parse(overrides)}
        unique = {cell.run_id: cell for cell in _cells(compose, name, list(axes.values()))}
    return list(unique.values())


def launcher_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """configs/launcher/`name`.yaml with overrides `launcher.key=value`; raises UsageError for any that is wrong."""
    with _composer() as compose:
        words = [f"+launcher={name}", *overrides]
        try:
            return OmegaConf.to_container(compose(words).launcher, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise _explain(compose, words, error) from None


# -- the Hydra application -----------------------------------------------------------------------------------------


def application(arguments: Sequence[str], execute: Callable[[RunSpec], None]) -> None:
    """Run `execute` on the configuration of `arguments`, or with -m on each of a Hydra multirun."""
    parsed, unknown = get_args_parser().parse_known_args(list(arguments))
    if unknown and unknown[0][0] != "-":
        raise UsageError(f"{unknown[0]} comes after an option: give the options first, as in run -m optimizer=erm,sam.")
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]}: what a run consists of is written key=value, for instance dataset=bbbp."
        )
    cells = compose_specs([word for word in parsed.overrides if not word.startswith("hydra")])  # less Hydra's flags
    if len(cells) > 1 and not (parsed.multirun or any(word.startswith("hydra.mode=") for word in parsed.overrides)):
        raise UsageError(f"these are {len(cells)} runs: `sam-bench run -m` makes one after the other.")
    GlobalHydra.instance().clear()
    sys.argv = ["sam-bench run", *arguments, *_searchpath()]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # the command line decides what a user sees of an error

    @hydra.main(version_base="1.3", config_path=str(files.config_dir()), config_name="config")
    def one_run(config: Any) -> None:
        running = HydraConfig.get()
        execute(make_spec(_resolve(_without_hydra(config)), running.runtime.choices, running.overrides.task))

    one_run()
