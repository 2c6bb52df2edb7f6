"""Shell completion of experiments, groups, their files, and keys. Needs argcomplete (extra [bench]).

In bash and zsh: eval "$(register-python-argcomplete sam-bench)".
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sam_bench.config import files
from sam_bench.errors import UsageError

GROUPS = ("dataset", "model", "base", "optimizer", "schedule", "train", "logger", "launcher")
Completer = Callable[..., list[str]]


def offer(parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """If the shell asks for completions, answer and end this process."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    for name, command in commands.items():
        for action in command._actions:
            completer = _COMPLETERS.get((name, action.dest)) or _COMPLETERS.get(("", action.dest))
            if completer is not None:
                action.completer = completer  # type: ignore[attr-defined] # where argcomplete looks for it
    argcomplete.autocomplete(parser, always_complete_options="long")


def _of(*words: Callable[[str], Iterator[str]]) -> Completer:
    """A completer for argcomplete: the words with the typed prefix; none if a YAML file is broken."""

    def complete(prefix: str, **_: Any) -> list[str]:
        try:
            return sorted({word for source in words for word in source(prefix) if word.startswith(prefix)})
        except UsageError:
            return []

    return complete


def _experiments(prefix: str) -> Iterator[str]:
    yield from files.yaml_files("experiment")


def _overrides(prefix: str) -> Iterator[str]:
    """`optimizer=`, then `optimizer=sam`, `optimizer=erm,sam`; `optimizer.`, then the keys of its files."""
    typed, equals, values = prefix.partition("=")
    group, dot, _ = typed.partition(".")
    if equals and not dot:
        before = values.rpartition(",")[0]
        start = f"{typed}={before}," if before else f"{typed}="
        yield from (f"{start}{name}" for name in files.yaml_files(typed) if typed in (*GROUPS, "experiment"))
    elif dot and group in GROUPS and not equals:
        for content in files.read_group(group).values():
            yield from (f"{group}.{key}=" for key in _keys(content))
    elif not equals:
        yield from (word for name in GROUPS for word in (f"{name}=", f"{name}."))
        yield from ("seed=", "split_seed=", "device=", "precision=", "threads=", "compile=", "deterministic=", "tuned=")


def _keys(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}"


def _names(group: str) -> Callable[[str], Iterator[str]]:
    return lambda prefix: iter(files.yaml_files(group))


_COMPLETERS: dict[tuple[str, str], Completer] = {
    ("", "experiment"): _of(_experiments),
    ("", "overrides"): _of(_overrides),
    ("", "words"): _of(_experiments, _overrides),
    ("", "launcher"): _of(lambda prefix: iter(["local", *files.yaml_files("launcher")])),
    ("data", "names"): _of(_names("dataset")),
    ("run", "arguments"): _of(_overrides),
}
