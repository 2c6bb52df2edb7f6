"""Read the environment variables that torchrun sets for its processes, without importing torch."""

import os


def here() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def several() -> bool:
    """Whether torchrun started this process as one of several."""
    return here() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def first() -> bool:
    """Whether this is the first process that torchrun started, or the only one; the others print nothing."""
    return not here() or os.environ.get("RANK", "0") == "0"
