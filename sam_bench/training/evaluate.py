"""Predictions and the metric of one split."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from sam_bench.api import Model, Task


@torch.no_grad()
def evaluate(
    model: Model, task: Task, split: str, *, batch_size: int, autocast: Callable[[], AbstractContextManager[Any]]
) -> tuple[dict[str, float], list[str]]:
    """The split's loss and metric, named `split/loss` and `split/<metric>`, and remarks on what could not be scored."""
    was_training = model.training
    model.eval()
    index = task.splits[split]
    losses, predictions = [], []
    for part in torch.split(index, batch_size):
        batch = task.collate(part)
        with autocast():
            output = model(batch)
        losses.append(task.loss(output, batch).sum())
        predictions.append(task.predict(output))
    model.train(was_training)
    value, notes = task.score(task.targets[index].cpu().numpy(), torch.cat(predictions).cpu().numpy())
    loss = torch.stack(losses).sum().item() / len(index)
    return {f"{split}/loss": loss, f"{split}/{task.metric}": value}, [f"{split}: {note}" for note in notes]
