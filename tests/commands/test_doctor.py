"""The doctor: one line per check, and an exit status that says how bad the worst is."""

import os

import pytest

from sam_bench.cli import main
from sam_bench.commands import doctor


@pytest.fixture
def asked(monkeypatch, results_dir, tmp_path, capsys):
    monkeypatch.setenv("SAM_BENCH_DATA", str(tmp_path / "data"))

    def ask(*checks):
        monkeypatch.setattr(doctor, "CHECKS", checks)
        status = main(["doctor"])
        return status, capsys.readouterr().out.splitlines()

    return ask


def finding(level):
    def check():
        yield doctor.Finding(level, "something", "is so", "do this")

    return check


@pytest.mark.parametrize(("levels", "status"), [
    (["ok", "ok"], 0), (["warning", "ok"], 1), (["ok", "broken", "warning"], 2),
])  # fmt: skip
def test_the_status_is_that_of_the_worst(asked, levels, status):
    found, lines = asked(*map(finding, levels))
    assert found == status
    assert [line.split()[0] for line in lines[:-1]] == levels
    assert all(line.endswith("is so -> do this") for line in lines[:-1])


def test_a_check_that_fails_is_a_finding(asked):
    def _gpu():
        raise RuntimeError("libcuda.so is of another\nversion")
        yield

    status, lines = asked(_gpu)
    assert status == 2
    assert lines[0].startswith("broken   gpu          RuntimeError: libcuda.so is of another version -> ")


def test_the_folders(asked, monkeypatch, tmp_path, results_dir):
    status, lines = asked(doctor._folders)
    assert status in (0, 1)  # 1: this machine has little room
    assert [line.split()[1] for line in lines[:-1]] == ["results", "data", "configs"]
    assert not results_dir.exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(tmp_path / "file" / "results"))
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path / "nowhere"))
    status, lines = asked(doctor._folders)
    assert status == 2
    assert [line.split()[0] for line in lines if line.split()[1] in ("results", "configs")] == ["broken", "broken"]


def test_the_versions(asked, monkeypatch):
    status, lines = asked(doctor._versions, doctor._wandb)
    assert status == 0
    assert "torch " in lines[1]
    monkeypatch.setattr(doctor, "SUITE", (*doctor.SUITE, "no-such-package"))
    status, lines = asked(doctor._versions)
    assert status == 2
    assert "missing: no-such-package" in lines[1]


def test_this_machine_is_deterministic(asked):
    status, lines = asked(doctor._determinism)
    assert (status, lines[0].split()[:2]) == (0, ["ok", "determinism"])


def test_a_busy_machine_is_a_warning(asked, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    status, lines = asked(doctor._cpu)
    assert status == 1
    assert any(line.startswith("warning  load") and "not comparable" in line for line in lines)
