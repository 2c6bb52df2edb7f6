"""The loss in a plane through the weights (Li et al., NeurIPS 2018, arXiv 1712.09913)."""

import torch
from torch import Tensor

from sam_bench.sharpness.surface import Surface


def filter_normalised(surface: Surface, generator: torch.Generator) -> Tensor:
    """A random direction (N,) whose filters are as long as those of the weights (Li et al., section 4).

    A filter is the weights of one output: a row of a matrix, or a kernel of a convolution. The direction is zero for
    biases and for the scales of normalisation layers, as in the authors' code.
    """
    parts = []
    for p in surface.params:
        d = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
        if p.dim() < 2:
            parts.append(torch.zeros_like(d).reshape(-1))
            continue
        rows, lengths = d.flatten(1), p.detach().flatten(1).norm(dim=1, keepdim=True)
        parts.append((rows * (lengths / rows.norm(dim=1, keepdim=True))).reshape(-1))
    return torch.cat(parts)


def plane(surface: Surface, points: int, span: float, generator: torch.Generator) -> tuple[list[float], list[list]]:
    """Points along each axis (points,), and the loss at each pair of points: [second axis][first axis]."""
    first, second = (filter_normalised(surface, generator) for _ in range(2))
    axis = torch.linspace(-span, span, points, dtype=torch.float64).tolist()
    return axis, [[surface.loss(a * first + b * second) for a in axis] for b in axis]
