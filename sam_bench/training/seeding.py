"""Every random number of a run is a function of its seed. This module derives, saves and restores the seeds."""

import hashlib
import os
import random
from typing import Any

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """A 63-bit seed from a seed, a purpose and a position, equal on every machine."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, NumPy and torch, and let torch use deterministic kernels only if asked to."""
    random.seed(derive(seed, "python"))
    np.random.seed(derive(seed, "numpy") % 2**32)
    torch.manual_seed(derive(seed, "torch"))
    if deterministic:
        # cuBLAS reads this at its start; without it torch refuses deterministic matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # In deterministic mode torch would fill each new tensor with NaN first. Nothing here reads a tensor before it is
    # written, so the weights are the same bits without it (tests/test_train.py), and a step is about 4 % faster.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # torch's types lack it
    torch.backends.cudnn.benchmark = not deterministic


def rng_state() -> dict[str, Any]:
    """The state of every global random generator, as tensors and plain numbers (safe to load)."""
    numpy = np.random.get_state(legacy=False)
    keys, position = numpy["state"]["key"], numpy["state"]["pos"]
    return {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(keys.astype(np.int64)), position, numpy["has_gauss"], numpy["gauss"]],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Set every global random generator back to `state`."""
    random.setstate(state["python"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
