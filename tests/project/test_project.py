"""What the project says of itself is true: versions, pins, configurations, README, no trace of a machine."""

import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT
from support.pages import blocks, write_files

import sam_bench
from sam_bench import cli

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
README = (ROOT / "README.md").read_text()
MACHINE = re.compile(r"(?<![\w.~$}-])/(?:home|root|work|farm|tmp|Users)/\w")
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|hf_[A-Za-z]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|(?i:api_?key|token|password|secret)[\"']?\s*[:=]\s*[\"'][A-Za-z0-9+/_-]{16,}[\"']"
)


def tracked() -> list[Path]:
    try:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="ignore")


def readme_commands() -> list[list[str]]:
    lines = [line for block in blocks("bash", README) for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def sam_bench_commands() -> list[list[str]]:
    """What follows `sam-bench`, `docker_run.sh` or `slurm_run.sh` on a line of the README."""
    programs = ("sam-bench", "scripts/docker_run.sh", "scripts/slurm_run.sh")
    found = []
    for words in readme_commands():
        start = next((n for n, word in enumerate(words) if word in programs), None)
        if start is not None and words[0] != "docker":
            found.append(words[start + 1 :])
    assert found
    return found


def test_version_is_stated_once():
    version = PYPROJECT["project"]["version"]
    assert sam_bench.__version__ == version, "the installed package is older than pyproject.toml: install it again"
    places = [
        p for p in tracked() if p.suffix in (".py", ".cff", ".md", ".yml") or p.name in ("Makefile", "Dockerfile")
    ]
    again = [p.name for p in places if re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", text_of(p))]
    assert set(again) <= {"CHANGELOG.md"}


def test_constraints_pin_what_pyproject_asks():
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    groups = [PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"].values()]
    for requirement in (Requirement(line) for group in groups for line in group):
        if requirement.name != PYPROJECT["project"]["name"]:
            version = pins.get(canonicalize_name(requirement.name))
            assert version, f"constraints.txt does not pin {requirement.name}"
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement} excludes {version}"


@pytest.mark.parametrize("name", ["environment.yml", "Dockerfile", "scripts/setup.sh"])
def test_all_ways_install_the_same_versions(name):
    assert "-c constraints.txt" in (ROOT / name).read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT)))
def test_config_parses_and_its_targets_import(path):
    def targets(node):
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if isinstance(node, dict) and "_target_" in node:
            yield node["_target_"]
        for child in children:
            yield from targets(child)

    for target in targets(yaml.safe_load(path.read_text())):
        assert callable(pkgutil.resolve_name(target))


def test_a_data_set_is_called_as_its_file():
    for path in (ROOT / "configs" / "dataset").glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["name"] == path.stem


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/experiment/*.yaml")), ids=lambda p: p.stem)
def test_an_experiment_says_command_time_and_metric(path):
    from sam_bench.config.compose import plan

    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert re.search(rf"^# command: +(\S+=\S+ )*sam-bench sweep {path.stem}\b", header, flags=re.M)
    expected = " ".join(header.partition("# expected: ")[2].replace("#", " ").split())
    assert expected.startswith(f"{len(plan(path.stem))} runs")
    assert re.search(r"time not measured|\b(\d+|a) (minute|hour|day)s?\b|\.md has the table and the time", expected)
    assert re.search(r"not available|accuracy|RMSE|source: ", expected)


@pytest.mark.parametrize("name", ["sam_cifar10", "sam_cifar100", "msam_table1"])
def test_a_header_and_the_docs_cite_what_the_paper_prints(name):
    from sam_bench.config.compose import plan
    from sam_bench.results.published import published

    header = (ROOT / "configs" / "experiment" / f"{name}.yaml").read_text().partition("defaults:")[0]
    (row,) = [line for line in (ROOT / "docs" / "images.md").read_text().splitlines() if f"`{name}`" in line]
    cells = {str(cell.labels["optimizer"]): cell for cell in plan(name)}
    for optimizer, cell in cells.items():
        first = published(cell.labels, "accuracy")[0]  # basic augmentation, 200 epochs
        digits = 4 if name == "msam_table1" else 3
        assert f"{first.value:.{digits}f}" in header, optimizer
        assert f"{first.value:.{digits}f}" in row, optimizer
        assert f"{first.spread:.{digits}f}" in header, optimizer


@pytest.mark.parametrize("words", sam_bench_commands(), ids=" ".join)
def test_readme_commands_are_understood(words):
    from sam_bench.config.compose import compose_specs, plan

    arguments = cli._parser().parse_args(words)
    known = {p.stem for group in ("optimizer", "model", "dataset") for p in (ROOT / "configs" / group).glob("*.yaml")}
    if arguments.command == "run":
        overrides = [word for word in arguments.arguments if "=" in word and word != "optimizer=my_sam"]
        assert compose_specs(overrides)
    elif hasattr(arguments, "experiment"):
        assert plan(arguments.experiment, arguments.overrides)
    elif arguments.command == "data":
        assert set(arguments.names) <= known


def test_readme_names_what_is_there():
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), flags=re.M))
    assert {words[1] for words in readme_commands() if words[0] == "make"} <= targets
    for program in {word for words in readme_commands() for word in words if word.startswith("scripts/")}:
        assert (ROOT / program).stat().st_mode & 0o111, f"{program} cannot be executed"
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


def test_readme_python_runs():
    for block in blocks("python", README):
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.slow
def test_the_examples_of_contributing_run_outside_the_package(tmp_path):
    write_files((ROOT / "CONTRIBUTING.md").read_text(), tmp_path)
    environment = {**os.environ, "SAM_BENCH_CONFIGS": "configs", "SAM_BENCH_RESULTS": str(tmp_path / "results")}

    def sam_bench(*words: str) -> str:
        command = [sys.executable, "-m", "sam_bench", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=200
        ).stdout

    assert "grad_evals_per_step  2" in sam_bench(
        "run", "dataset=wine", "model=two_layers", "optimizer=half_sam", "train.epochs=1"
    )
    table = sam_bench("sweep", "wine_study", "seed=0", "--jobs", "1")
    assert [name in table for name in ("erm", "sam", "half_sam")] == [True] * 3
    assert "(3 of 3 cells finished)" in table


def test_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PYPROJECT["project"]["license"] == "MIT"
    assert all({"name"} <= author.keys() or {"family-names"} <= author.keys() for author in citation["authors"])


def test_no_machine_path_and_no_secret():
    found = []
    for path in tracked():
        for pattern in (MACHINE, SECRET):
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text_of(path))]
    assert not found


def test_no_large_file():
    assert [path for path in tracked() if path.stat().st_size > 1_000_000] == []


@pytest.mark.parametrize("path", [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"], ids=lambda p: p.name)
def test_shell_scripts_parse(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert path.stat().st_mode & 0o111
