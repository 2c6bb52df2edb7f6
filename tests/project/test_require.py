"""`pytest --require MARK`: a skip that would hide a missing thing counts as failed."""

import os
import subprocess
import sys

from support import ROOT

FILES = {
    "conftest.py": (ROOT / "tests" / "conftest.py").read_text(),
    "pytest.ini": "[pytest]\nmarkers = data\n    gpu\n",
    "test_functions.py": """
import pytest
@pytest.mark.data
def test_skips_itself(): pytest.skip("no data")
@pytest.mark.data
@pytest.mark.skip(reason="no data")
def test_is_marked(): pass
def test_wants_data(data_dir): pass
@pytest.mark.gpu
def test_wants_a_gpu(): pytest.skip("no GPU")
@pytest.mark.data
@pytest.mark.xfail
def test_is_known_to_fail(): assert False
def test_passes(): pass
""",
    "test_module.py": "import pytest\npytestmark = pytest.mark.data\npytest.importorskip('no_such_module')\n",
    "test_other_module.py": "import pytest\npytest.importorskip('no_such_module')\n",
}
ENVIRONMENT = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "SAM_BENCH_DATA": ""}
COMMAND = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--continue-on-collection-errors"]


def test_required_skips_fail_and_others_stay(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    command = [*COMMAND, "--require", "data"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    words = [line.split()[:2] for line in done.stdout.splitlines()]
    told = {name.rpartition("::")[2]: outcome for outcome, name in (w for w in words if len(w) == 2)}
    failed = {name for name in told if told[name] in ("FAILED", "ERROR")}
    assert failed == {"test_skips_itself", "test_is_marked", "test_wants_data", "test_module.py"}, done.stdout
