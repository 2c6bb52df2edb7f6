"""fp16: the dynamic loss scale, updated by torch's rule through GradScaler's public interface."""

from typing import Any

import torch


def update_scale(scaler: torch.amp.GradScaler, memory: dict[str, Any], finite: bool, scale: float) -> None:
    """Reduce `scale` after an overflow and raise it after enough good steps, which `memory` counts."""
    if not scaler.is_enabled():
        return
    grown = memory.get("growth", 0) + 1 if finite else 0
    if not finite:
        scale *= scaler.get_backoff_factor()
    elif grown >= scaler.get_growth_interval():
        scale, grown = scale * scaler.get_growth_factor(), 0
    memory["growth"] = grown
    scaler.update(scale)
