"""What all tests share: one thread, the real data where they are, an isolated results folder, `--require`."""

import os
import subprocess
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("WANDB_MODE", "offline")

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
# Programs that tests start find tests/support.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """The real data: $SAM_BENCH_DATA, or what lies in ../shared/data, unpacked once for this session."""
    if chosen := os.environ.get("SAM_BENCH_DATA"):
        return Path(chosen)
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data: set SAM_BENCH_DATA")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # the folder that all workers share
    folder = base / "real-data"
    with FileLock(base / "real-data.lock"):
        if not folder.is_dir():
            subprocess.run([SHARED_DATA / "unpack", base / "unpacking"], check=True)
            (base / "unpacking").rename(folder)
    return folder


@pytest.fixture
def results_dir(tmp_path, monkeypatch) -> Path:
    """A results folder of this test's own."""
    folder = tmp_path / "results"
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(folder))
    return folder


def pytest_addoption(parser):
    parser.addoption(
        "--require", action="append", default=[], metavar="MARK", help="a skipped test that carries MARK has failed"
    )


def cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items):
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
        if item.get_closest_marker("gpu") and not cuda_is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    required = [mark for mark in item.config.getoption("require") if item.get_closest_marker(mark)]
    if report.skipped and required and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in spite of --require {required[0]}: {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A whole module may skip itself before its marks can be read: then its text tells."""
    report = yield
    if report.skipped and collector.path.is_file():
        required = [m for m in collector.config.getoption("require") if f"mark.{m}" in collector.path.read_text()]
        if required:
            report.outcome = "failed"
            report.longrepr = f"skipped in spite of --require {required[0]}: {report.longrepr[-1]}"
    return report
