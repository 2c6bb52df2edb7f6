"""What torchrun tells a process that it started, in the environment; read before torch is imported, and without it."""

import os


def here() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def several() -> bool:
    """Whether torchrun started this process as one of several."""
    return here() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def first() -> bool:
    """False in all processes that torchrun started but the first: they say nothing that the first says."""
    return not here() or os.environ.get("RANK", "0") == "0"
