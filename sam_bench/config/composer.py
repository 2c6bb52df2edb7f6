"""Hydra's composition of the YAML files, with errors that say which word or which file is wrong."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sam_bench.config import files
from sam_bench.config.resolved import keys_of, without_hydra
from sam_bench.errors import UsageError, did_you_mean

Compose = Callable[[Sequence[str]], DictConfig]
ERRORS = (HydraException, OmegaConfBaseException)


class Unknown(UsageError):
    """An override of `key` names something that does not exist: the key itself, or a YAML file of a group."""

    def __init__(self, key: str, what: str, name: str, known: Sequence[str]):
        super().__init__(f"unknown {what} {name!r}. {did_you_mean(name, known)}")
        self.key = key


class _UserFolders(SearchPathPlugin):
    """Tells Hydra about the user's folders. An override `hydra.searchpath` would break on commas and quotes."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in files.user_dirs():
            search_path.append("SAM_BENCH_CONFIGS", f"file://{folder}")


@contextmanager
def composer() -> Iterator[Compose]:
    """A function that composes a list of overrides, each with one value; it raises the ERRORS."""
    files.user_dirs()  # raises before Hydra begins
    GlobalHydra.instance().clear()
    Plugins.instance().register(_UserFolders)
    with hydra.initialize_config_dir(str(files.config_dir()), version_base="1.3", job_name="sam_bench"), readable():
        yield lambda overrides: hydra.compose("config", list(overrides), return_hydra_config=True)


@contextmanager
def readable() -> Iterator[None]:
    """Name in one line the file that cannot be read as YAML; Hydra would print a traceback."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a YAML file"
        raise UsageError(f"{place}: cannot be read as YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"a YAML file cannot be read: {' '.join(str(error).split())}.") from None


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides as Hydra does; raises UsageError for the first that it cannot read."""
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        bad = next((o for o in overrides if not _is_readable(o)), overrides[0])
        raise UsageError(_unreadable(bad, error)) from None


def _is_readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _unreadable(override: str, error: Exception) -> str:
    key, separator, value = override.partition("=")
    if not separator:
        return f"cannot read the override {override!r}: write key=value, for instance seed=1."
    said = f"cannot read the override {override!r}: {str(error).splitlines()[0]}."
    if re.search(r"[\s()\[\]{}:,'\"=]", value):
        said += (
            " A value with a space, bracket, comma, colon or equals sign needs its own quotes inside the quotes of the "
            f"shell: \"{key}='...'\"; in a list: \"{key}=['...','...']\"."
        )
    return said


def line(override: Override) -> str:
    """The override as it was typed."""
    return cast(str, override.input_line)  # None only where Hydra's sweepers make one


def explain(compose: Compose, overrides: Sequence[str], error: Exception) -> UsageError:
    """The error that names the wrong override, with a guess of what was meant, or the wrong file."""
    broken = UsageError(f"cannot compose {' '.join(overrides) or 'the configuration'}: {error}")
    try:
        compose([])
    except ERRORS:  # a YAML file is at fault, not an override
        return broken
    loader = GlobalHydra.instance().config_loader()
    groups = [g for g in loader.list_groups("") if g != "hydra"]
    good: list[str] = []
    for override in parse(overrides):
        key, text = override.key_or_group, line(override)
        if key in groups and override.value() is not None:
            options = loader.get_group_options(key)
            if str(override.value()) not in options:
                return Unknown(key, key, str(override.value()), options)
        try:
            compose([*good, text])
        except ERRORS as wrong:
            if key in groups and (path := files.yaml_files(key).get(str(override.value()))):
                return UsageError(_in_file(path, wrong))
            known = list(keys_of(cast(dict[str, Any], OmegaConf.to_container(without_hydra(compose(good))))))
            return Unknown(key, "key", key, sorted({*known, *groups})) if key not in known else broken
        good.append(text)
    return broken


def _in_file(path: Path, error: Exception) -> str:
    """What is wrong inside an existing YAML."""
    told = " ".join(str(error).split())
    if missing := re.search(r"(?:Could not find|Could not load) '(\w+)/([^']+)'", told):
        group, name = missing.groups()
        known = files.yaml_files(group)
        return f"{path}: its defaults name {group} {name!r}, which does not exist. {did_you_mean(name, known)}"
    return f"{path} cannot be used: {told}"
