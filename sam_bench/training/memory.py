"""Memory that a step gives back stays with the process, so that the next step need not ask the system for it again."""

import ctypes
import platform

# Of glibc's malloc.h, with what they mean here.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**29  # free memory at the end of the heap that is not given back
LARGEST_BYTES = 2**25  # a larger block is asked of the system each time; glibc takes no larger limit


def keep_freed() -> bool:
    """Tell the C library to keep freed memory; False where it cannot be told (only glibc can).

    By default glibc gives the large blocks of a step back and gets them again as empty pages in the next: thousands of
    page faults, about a tenth of a step on a CPU (docs/molecules.md). No value that is computed depends on it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    options = {TRIM_THRESHOLD: KEPT_BYTES, MMAP_THRESHOLD: LARGEST_BYTES}
    return all([library.mallopt(option, value) for option, value in options.items()])
