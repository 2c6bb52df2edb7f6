"""Every command on the page of the papers can be given, and the script of the GraphSAM paper passes options on."""

import os
import re
import shlex
import shutil
import stat
import subprocess

import pytest
from support import ROOT

from sam_bench import cli
from sam_bench.config.compose import plan

PAGE = (ROOT / "docs" / "papers.md").read_text()
COMMANDS = [shlex.split(found)[1:] for found in re.findall(r"`(sam-bench [a-z]+ [a-z_0-9]+[^`]*)`", PAGE)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_names_runs(words):
    arguments = cli._parse(words)
    experiment, *overrides = arguments.words if hasattr(arguments, "words") else [
        arguments.experiment, *arguments.overrides
    ]  # fmt: skip
    cells = plan(experiment, overrides)
    assert cells
    assert {cell.labels["optimizer"] for cell in cells} != {"erm"}


@pytest.fixture
def script(tmp_path):
    """The script in a tree of its own, where `sam-bench` writes down how it was called."""
    for name, text in {".venv/bin/sam-bench": f'echo "$*" >> {tmp_path}/calls', "bin/make": "true"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "reproduce_graphsam.sh", tmp_path / "scripts")
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    environment.pop("SAM_BENCH_RESULTS", None)

    def run(*words):
        subprocess.run([tmp_path / "scripts" / "reproduce_graphsam.sh", *words], env=environment, check=True)
        return (tmp_path / "calls").read_text().splitlines()

    return run


def test_a_dry_run_makes_nothing(script, tmp_path):
    names = ("graphsam_main", "graphsam_efficient", "graphsam_code")
    assert script("--dry-run", "--jobs", "2") == [f"sweep {name} --dry-run --jobs 2" for name in names]
    assert not (tmp_path / "results").exists()


def test_options_of_sweep_go_to_sweep_and_what_names_runs_to_all(script):
    given = ["train.max_steps=5", "--jobs", "2", "--filter", "optimizer=erm,sam", "--launcher", "slurm",
             "launcher.gpus=1", "--retry-failed"]  # fmt: skip
    calls = script(*given)
    assert calls[1] == f"sweep graphsam_main {' '.join(given)}"
    named = "train.max_steps=5 --filter optimizer=erm,sam"
    assert calls[2].startswith(f"table graphsam_main {named} --format markdown --out ")
    assert calls[3] == f"figures graphsam_main {named}"
    assert [call.split()[1] for call in calls if call.startswith("figures")][-1] == "graphsam_code"


def test_without_words(script):
    assert script()[1:4:2] == ["sweep graphsam_main", "figures graphsam_main"]
