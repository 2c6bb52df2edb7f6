"""Keep the memory that a step frees in the process, so that the next step need not ask the system for it again."""

import ctypes
import platform

# Constants of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**29  # how much free memory at the end of the heap is kept
LARGEST_BYTES = 2**25  # larger blocks come from the system each time; glibc allows no larger limit


def keep_freed() -> bool:
    """Tell the C library to keep freed memory; False if the library cannot do it (only glibc can).

    By default glibc returns the large blocks of a step and gets them again as empty pages in the next step. This causes
    thousands of page faults, about a tenth of a step on a CPU (docs/molecules.md). Results do not depend on it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    options = {TRIM_THRESHOLD: KEPT_BYTES, MMAP_THRESHOLD: LARGEST_BYTES}
    return all([library.mallopt(option, value) for option, value in options.items()])
