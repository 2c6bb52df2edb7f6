"""fp16: the dynamic loss scale, moved by torch's own rule through GradScaler's public interface."""

from typing import Any

import torch


def update_scale(scaler: torch.amp.GradScaler, memory: dict[str, Any], finite: bool, scale: float) -> None:
    """Shrink `scale` after an overflow, let it grow after enough good steps; the count of these is in `memory`."""
    if not scaler.is_enabled():
        return
    grown = memory.get("growth", 0) + 1 if finite else 0
    if not finite:
        scale *= scaler.get_backoff_factor()
    elif grown >= scaler.get_growth_interval():
        scale, grown = scale * scaler.get_growth_factor(), 0
    memory["growth"] = grown
    scaler.update(scale)
