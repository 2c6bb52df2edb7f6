"""Write docs/cli.md: every command, its arguments and options, from the command line's own parsers."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from sam_bench.cli import _parser

HEAD = """# Commands

<!-- written by scripts/cli_page.py; do not edit -->

Every command is `sam-bench COMMAND ...`. Where a command takes overrides (`key=value`), [options.md](options.md) lists
the keys. The exit status is 0 if all went well, 1 if a run or a check failed, 2 for a wrong request, and 130 after
Ctrl-C.

| option of `sam-bench` itself | meaning |
|---|---|
| `--version` | print the version |
| `--traceback` | show the traceback of an error: `sam-bench --traceback COMMAND ...` |

| environment variable | meaning |
|---|---|
| `SAM_BENCH_DATA` | folder for data sets (default: `~/.cache/sam_bench`) |
| `SAM_BENCH_RESULTS` | folder for records (default: `results`) |
| `SAM_BENCH_CONFIGS` | folders with your own YAML files, separated as in `PATH` |
"""
NOTES = {  # about what argparse does not see: the arguments that these commands hand on
    "sam-bench run": "`sam-bench run` is a [Hydra](https://hydra.cc) application: `key=value` sets a key, `-m` makes "
    "one run for each value of a list (`seed=0,1`), and `--cfg job` prints the configuration without running it.",
    "sam-bench speed": "`sam-bench speed WHAT --help` lists the options of each.",
}


def text() -> str:
    """The whole page."""
    return HEAD + "".join(section(name, summary, parser) for name, summary, parser in subcommands(_parser()))


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """(name, one line of help, parser) of each command below `parser`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield name, helps.get(name, ""), inner


def section(name: str, summary: str, parser: argparse.ArgumentParser, above: str = "sam-bench") -> str:
    """The heading, description and tables of a command, and those of the commands below it."""
    full = f"{above} {name}"
    level = "#" * (full.count(" ") + 1)
    parts = [f"\n{level} {full}\n\n{sentence(summary)}\n"]
    if full in NOTES:
        parts.append(f"\n{NOTES[full]}\n")
    elif parser.description:
        parts.append(f"\n{escaped(sentence(parser.description))}\n")
    rows = [row(action, parser) for action in parser._actions if is_shown(action)]
    if rows:
        parts.append("\n| argument | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    parts += [section(inner, help_, sub, full) for inner, help_, sub in subcommands(parser)]
    return "".join(parts)


def is_shown(action: argparse.Action) -> bool:
    """All but --help, what is hidden, and the list of commands, which have sections of their own."""
    hidden = action.help == argparse.SUPPRESS or action.nargs == argparse.REMAINDER  # these have a note
    return not hidden and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)


def row(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """One line of the table: how the argument is written, what it means, its choices and its default."""
    meaning = (action.help or "") % (vars(action) | {"prog": parser.prog})
    if action.choices is not None:
        meaning = "; ".join(filter(None, (meaning, "one of " + ", ".join(f"`{choice}`" for choice in action.choices))))
    if action.required and action.option_strings:
        meaning += " (required)"
    elif "default" not in meaning and isinstance(action.default, str | int | float | Path) and takes_value(action):
        meaning += f" (default: `{action.default}`)"
    return f"| {written(action)} | {escaped(meaning)} |"


def takes_value(action: argparse.Action) -> bool:
    """Whether an option is followed by a value; a flag is not."""
    return bool(action.option_strings) and action.nargs != 0 and action.default is not argparse.SUPPRESS


def written(action: argparse.Action) -> str:
    """`--jobs JOBS`, or the name of a positional argument."""
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    value = " ".join(value) if isinstance(value, tuple) else str(value)
    value = f"{value} ..." if action.nargs in ("*", "+") else value
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings[:-1])
    last = action.option_strings[-1] + (f" {value}" if takes_value(action) else "")
    return ", ".join(filter(None, (names, f"`{last}`"))).replace("|", "\\|")


def sentence(words: str) -> str:
    """With a capital letter and a full stop."""
    words = " ".join(words.split())
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", ":")) else ".")


def escaped(words: str) -> str:
    """What a cell of a table may hold."""
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / "docs" / "cli.md").write_text(text())
