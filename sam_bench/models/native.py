"""Compile the C++ of a model when it is first asked for, and load it.

The library lies in a cache folder under a name that holds the source, the compiler and the processor, so that another
one is never loaded. Several processes may ask at once: each compiles on its own, and the last whole file stays.
"""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

from sam_bench.errors import UsageError
from sam_bench.options.compiler import cpp_compiler, no_cpp_compiler
from sam_bench.store import disk

FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC")
SLOWEST = 300  # seconds of a compiler before something is wrong


def cache_dir() -> Path:
    """Folder of the compiled libraries: in the user's cache, whatever SAM_BENCH_DATA says."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "sam_bench" / "native"


@functools.cache
def library(source: Path) -> ctypes.CDLL:
    """The library of a C++ file and the headers beside it, from the cache, or compiled.

    Raises UsageError where there is no compiler, where it fails, and where the cache cannot be written.
    """
    if lacking := no_cpp_compiler():
        raise UsageError(f"model.kernels=native: {lacking}. Install one, or run with model.kernels=torch.")
    made = cache_dir() / f"{source.stem}-{_fingerprint(source)}.so"
    if not made.exists():
        _compile(source, made)
    return ctypes.CDLL(str(made))


def _fingerprint(source: Path) -> str:
    """Of all that the code depends on. Homes are shared by machines with other instructions."""
    version = subprocess.run(
        [cpp_compiler(), "--version"], capture_output=True, text=True, timeout=SLOWEST, check=False
    )
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("*.h")))]
    parts = [*texts, " ".join(FLAGS), version.stdout, platform.machine(), _instructions()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _instructions() -> str:
    """What the first processor says of itself; on a Mac the machine's name is enough."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    told = (line for line in text.split("\n\n")[0].splitlines() if line.startswith(("model name", "flags", "Features")))
    return "\n".join(told)


def _compile(source: Path, made: Path) -> None:
    with disk.advice(made):
        made.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(suffix=".so", dir=made.parent)
    os.close(descriptor)
    try:
        words = [cpp_compiler(), *FLAGS, str(source), "-o", draft]
        done = subprocess.run(words, capture_output=True, text=True, timeout=SLOWEST, check=False)
        if done.returncode:
            told = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-300:])
            raise UsageError(f"model.kernels=native: {cpp_compiler()} failed: {told}\nRun with model.kernels=torch.")
        os.replace(draft, made)  # as a whole: another process may be looking
    except subprocess.TimeoutExpired:
        told = f"{cpp_compiler()} took more than {SLOWEST} s. Run with model.kernels=torch."
        raise UsageError(f"model.kernels=native: {told}") from None
    finally:
        Path(draft).unlink(missing_ok=True)
