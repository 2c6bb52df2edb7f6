"""Sweeps that are killed, starved of disk and stripped of permission end as if nothing had happened."""

import re
import subprocess
import sys

import pytest
from support import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on two idle cores
@pytest.mark.skipif(sys.platform != "linux", reason="takes rights away as only Linux can")
def test_twenty_kills_lose_double_and_change_nothing(tmp_path):
    script = ROOT / "scripts" / "chaos" / "chaos.py"
    command = [sys.executable, script, "--kills", "20", "--drivers", "1", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (killed,) = re.findall(r"^(\d+) processes killed", done.stdout, flags=re.M)
    assert int(killed) >= 20
    assert "all as undisturbed" in done.stdout
