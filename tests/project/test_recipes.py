"""The commands in the headers of the experiments are commands that work."""

import re
import shlex

import pytest

from sam_bench import cli
from sam_bench.config import files

COMMAND = re.compile(r"sam-bench (?:sweep|budgets|tune|table|references) [^#`;&]*")


def commands(path):
    """Every command in the comments at the top, also those that stand inside a sentence."""
    head = "\n".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    return [shlex.split(found.splitlines()[0])[1:] for found in COMMAND.findall(head)]


@pytest.mark.parametrize("path", sorted((files.config_dir() / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_commands_of_an_experiment_work(path, results_dir, capsys):
    found = commands(path)
    assert found
    for words in found:
        assert words[1] == path.stem, "the header names another experiment"
        if words[0] == "sweep":
            assert cli.main([*words, "--dry-run"]) == 0
            number = re.search(r"expected: (\d+) runs", path.read_text())
            if number:
                assert f"{number[1]} of {number[1]} cells to run" in capsys.readouterr().out
        else:
            assert cli._parse(words).command == words[0]
    assert not results_dir.exists()
