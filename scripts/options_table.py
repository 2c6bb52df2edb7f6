"""Write docs/options.md: what each component takes, from the classes in sam_bench/options and the YAML files."""

import inspect
import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml

from sam_bench.config import files
from sam_bench.options import run
from sam_bench.options.component import GROUPS, declared
from sam_bench.options.rules import Option, options_of

HEAD = """# Options

<!-- written by scripts/options_table.py; do not edit -->

What may stand in a YAML file or an override, such as `train.epochs=2` or `optimizer.rho=0.1`. A key that is not in the
table of its component is refused, with a guess at what was meant; so is a value out of its range. A default is that of
each YAML file; where there is none, the key is added with a plus: `+optimizer.same_dropout=true`. A component of your
own has the options that its `_target_` takes.
"""
ARGUMENT = re.compile(r"^        (\w+): (.*(?:\n {10,}.*)*)", flags=re.M)


def text() -> str:
    """The whole page."""
    top = yaml.safe_load((files.config_dir() / "config.yaml").read_text())
    parts = [HEAD, "\n## A run\n", table(options_of(run.Run), {"config": top}, {})]
    parts += ["\n## train\n", table(options_of(run.Train), files.read_group("train", ["default"]), {})]
    for group in GROUPS:
        parts.append(f"\n## {group}\n")
        for target, yamls in by_target(group).items():
            options = declared(group, target)
            assert options is not None, f"nothing declares the options of {target}"
            names = ", ".join(f"`{name}`" for name in yamls)
            parts.append(f"\n{names} (`{target}`)\n")
            parts.append(table(options_of(options), yamls, arguments(options)))
    return "\n".join(parts) + "\n"


def by_target(group: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The YAML files of a group, those of one class together."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, config in files.read_group(group).items():
        found.setdefault(config["_target_"], {})[name] = config
    return found


def arguments(options: type) -> dict[str, str]:
    """What the docstrings of a component, and of those whose options it shares, say under Args."""
    targets = dict.fromkeys(cls.target for cls in options.__mro__ if hasattr(cls, "target"))
    classes = [cls for target in targets for cls in getattr(resolve_name(target), "__mro__", ())]
    found: dict[str, str] = {}
    for cls in classes:
        own = (cls.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0] if "sam_bench" in cls.__module__ else ""
        found = {name: re.sub(r"\s+", " ", meaning) for name, meaning in ARGUMENT.findall(own)} | found
    return found


def table(options: dict[str, Option], yamls: dict[str, dict[str, Any]], said: dict[str, str]) -> str:
    """A row for each option."""
    rows = ["| option | must be | default | meaning |", "|---|---|---|---|"]
    for option in options.values():
        rows += row(option, yamls, said)
    return "\n".join(rows)


def row(option: Option, yamls: dict[str, dict[str, Any]], said: dict[str, str], prefix: str = "") -> list[str]:
    """The line of an option, and those of the options in it."""
    meaning = option.meaning or said.get(option.name, "")
    cells = [f"`{prefix}{option.name}`", option.wanted, default(option, yamls, prefix), meaning]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]
    if option.nested is not None:
        for inner in options_of(option.nested).values():
            lines += row(inner, yamls, said, f"{prefix}{option.name}.")
    return lines


def default(option: Option, yamls: dict[str, dict[str, Any]], prefix: str) -> str:
    """The value in the YAML files, with the names of those that differ from the first; what is long is left to them."""
    values = {name: shown(inside(config, prefix + option.name)) for name, config in yamls.items()}
    if any(len(value) > 40 for value in values.values()) or len(set(values.values())) > 4:
        return "see the YAML"
    first, *others = dict.fromkeys(values.values())
    return ", ".join(
        [first, *(f"{other} ({', '.join(n for n, v in values.items() if v == other)})" for other in others)]
    )


def inside(config: Any, key: str) -> Any:
    """The value at a dotted key, ... where there is none."""
    for part in key.split("."):
        config = config.get(part, ...) if isinstance(config, dict) else ...
    return config


def shown(value: Any) -> str:
    """A value as an override has it."""
    words = {None: "null", True: "true", False: "false", ...: "-"}
    if isinstance(value, bool | None) or value is ...:
        return words[value]
    return "`" + inspect.cleandoc(str(value)) + "`"


if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / "docs" / "options.md").write_text(text())
