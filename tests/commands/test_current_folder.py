"""The current folder is no part of the program: only `run` and `sweep` import from it what a YAML names."""

import os
import subprocess
import sys

import pytest

EXPERIMENT = """# @package _global_
defaults: [{override /dataset: digits}, {override /model: fastnet_tiny}]
train: {epochs: 1, max_steps: 2}
hydra: {sweeper: {params: {optimizer: erm, seed: "0"}}}
"""
# What libraries try to import, whether it is there or not; what is there must not be replaced either.
PLANTED = ("pyarrow", "triton", "numba", "bottleneck", "hydra_plugins/planted", "yaml", "pandas", "torch", "numpy")
TRAP = "import os; open(os.path.join({folder!r}, {name!r}), 'w').close()\n"
READING = (
    ("status", "planted"), ("table", "planted"), ("verify", "planted"), ("figures", "planted", "--out", "figures"),
    ("report", "planted", "--out", "page.html"), ("sharpness", "planted", "--samples", "32", "--probes", "2"),
    ("wandb", "sync", "planted", "--mode", "offline"), ("references", "planted"), ("data", "list"),
    ("sweep", "planted"), ("sweep", "planted", "--dry-run"),
    ("run", "dataset=digits", "model=fastnet_tiny", "train.max_steps=1", "optimizer=erm"),
)  # fmt: skip
ALL = """
import sys
from sam_bench.__main__ import start
for line in sys.stdin.read().splitlines():
    sys.argv[1:] = line.split()
    print(line.split()[0], start(), flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    """A current folder full of traps, and beside it the experiment `planted`; `sprung` are the traps that went off."""
    hostile, sprung = tmp_path / "downloaded", tmp_path / "sprung"
    sprung.mkdir()
    for name in PLANTED:
        path = hostile / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TRAP.format(folder=str(sprung), name=name.replace("/", ".")))
    experiments = tmp_path / "configs" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "planted.yaml").write_text(EXPERIMENT)
    (tmp_path / "all.py").write_text(ALL)
    return hostile


def start(folder, *words, stdin="", **environment):
    home = folder.parent
    environment = {
        **os.environ, "SAM_BENCH_CONFIGS": str(home / "configs"), "SAM_BENCH_RESULTS": str(home / "results"),
        "WANDB_MODE": "offline", "WANDB_DIR": str(home), **environment,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=environment, input=stdin, capture_output=True, text=True
    )


def sprung(folder):
    return sorted(path.name for path in (folder.parent / "sprung").iterdir())


def test_the_traps_are_traps(folder):
    """A Python that has the current folder on its path falls into one: or the tests below show nothing."""
    assert start(folder, "-c", "import triton, yaml").returncode == 0
    assert sprung(folder) == ["triton", "yaml"]


def test_python_m_makes_and_reads_a_run(folder):
    """The run is made by a worker of a fork server, which imports torch."""
    done = start(folder, "-m", "sam_bench", "sweep", "planted")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sprung(folder) == []


@pytest.mark.slow
def test_no_command_imports_from_the_current_folder(folder):
    """As the installed program does it: a script that lies elsewhere."""
    made = start(folder, folder.parent / "all.py", stdin="sweep planted")
    assert "sweep 0" in made.stdout, made.stdout + made.stderr
    done = start(folder, folder.parent / "all.py", stdin="\n".join(" ".join(words) for words in READING))
    lines = done.stdout.splitlines()
    for words in READING:
        expected = 2 if words[0] == "references" else 0  # digits are no molecules
        assert f"{words[0]} {expected}" in lines, (words, done.stdout, done.stderr)
    assert sprung(folder) == []


OWN = """from sam_bench.optim import SAM


class Mine(SAM):
    def direction(self, oracle):
        import helper  # only when it steps: the folder is still on the path

        return helper.times_one(super().direction(oracle))
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_code_of_ones_own_that_a_yaml_names_is_found(folder, command):
    (folder / "my_sam.py").write_text(OWN)
    (folder / "helper.py").write_text("def times_one(direction):\n    return direction\n")
    for name in ("yaml", "pandas", "torch", "numpy"):  # even here they do not come before what is installed
        assert (folder / f"{name}.py").exists()
    yaml = folder.parent / "configs" / "optimizer" / "mine.yaml"
    yaml.parent.mkdir()
    yaml.write_text("_target_: my_sam.Mine\nrho: 0.05\n")
    words = {
        "run": ("run", "dataset=digits", "model=fastnet_tiny", "train.max_steps=2", "optimizer=mine"),
        "sweep": ("sweep", "planted", "optimizer=mine"),
    }[command]
    done = start(folder, "-m", "sam_bench", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((folder.parent / "results" / "runs").glob("*-mine-*/record.json"))) == 1
    assert not {"yaml", "pandas", "torch", "numpy", "hydra_plugins.planted"} & set(sprung(folder))
    if command == "sweep":
        refused = start(folder, "-m", "sam_bench", "sharpness", "planted", "optimizer=mine")
        assert refused.returncode in (0, 2)
        assert "Traceback" not in refused.stderr
