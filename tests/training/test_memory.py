"""Memory that a step gives back stays with the process."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import ctypes, resource, sys, torch
from sam_bench.training import memory
# What glibc starts with. Left alone it adapts these, and what it comes to is not the same in every process.
for option in (memory.TRIM_THRESHOLD, memory.MMAP_THRESHOLD):
    ctypes.CDLL(None).mallopt(option, 2**17)
assert sys.argv[1] == "default" or memory.keep_freed()
def step():
    kept = [torch.ones(2**19) for _ in range(32)]  # two megabytes each
    return sum(float(t[-1]) for t in kept)
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
assert sum(step() for _ in range(5)) == 160
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_step_gets_the_memory_of_the_last_one_without_page_faults():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("default", "kept")
    }
    assert faults["kept"] < 1_000  # a step has 16,384 pages
    assert faults["default"] > 20_000
