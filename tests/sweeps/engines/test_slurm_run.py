"""scripts/slurm_run.sh works from any folder: SLURM runs a copy of it, far from the project."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import ROOT

PROGRAM = '#!/bin/sh\necho "$0|$SAM_BENCH_RESULTS|$PWD|$*"\n'


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path):
    """A project with a .venv whose sam-bench says how it was called, and a space in its path."""
    folder = tmp_path / "my project"
    program(folder / "scripts" / "slurm_run.sh", (ROOT / "scripts" / "slurm_run.sh").read_text())
    program(folder / ".venv" / "bin" / "sam-bench", PROGRAM)
    return folder


@pytest.fixture(params=["absolute", "relative"])
def job(tmp_path, project, request):
    """Run the script as SLURM does: a copy in its spool, in the folder from which it was submitted."""
    spool, submitted_from = tmp_path / "spool" / "job00007", tmp_path / "elsewhere"
    submitted_from.mkdir()
    known = (
        f"JobId=7 JobName=sam-bench\n   Command={project}/scripts/slurm_run.sh sweep digits\n   WorkDir=/elsewhere\n"
    )
    program(tmp_path / "bin" / "scontrol", f'#!/bin/sh\n[ "$*" = "show job 7" ] && cat <<END\n{known}END\n')

    def run(*words: str, **variables: str) -> list[str]:
        script = program(spool / "slurm_script", (project / "scripts" / "slurm_run.sh").read_text())
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SAM_BENCH_"))}
        path = os.pathsep.join([str(tmp_path / "bin"), kept["PATH"]])
        environment = {**kept, "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(submitted_from), **variables, "PATH": path}
        done = subprocess.run([script, *words], cwd=submitted_from, env=environment, check=True, capture_output=True)
        return done.stdout.decode().strip().split("|")

    return run


def test_a_job_finds_its_project_from_any_folder(job, project, tmp_path):
    called = [f"{project}/.venv/bin/sam-bench", f"{project}/results", f"{tmp_path}/elsewhere"]
    assert job("sweep", "digits") == [*called, "sweep digits"]
    assert job("run", "optimizer=sam", SLURM_ARRAY_TASK_ID="3") == [*called, "run optimizer=sam seed=3"]


def test_the_results_folder_can_be_chosen(job, tmp_path):
    assert job("sweep", "digits", SAM_BENCH_RESULTS=f"{tmp_path}/mine")[1] == f"{tmp_path}/mine"


def test_without_a_venv_the_sam_bench_on_the_path_is_used(job, project, tmp_path):
    shutil.rmtree(project / ".venv")
    mine = program(tmp_path / "bin" / "sam-bench", PROGRAM)
    assert job("sweep", "digits") == [str(mine), "", f"{tmp_path}/elsewhere", "sweep digits"]


def test_without_slurm_it_is_a_plain_script(project, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SAM_BENCH_"))}
    done = subprocess.run(
        [project / "scripts" / "slurm_run.sh", "status", "digits"], cwd=tmp_path, env=environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split("|")[:2] == [f"{project}/.venv/bin/sam-bench", f"{project}/results"]
