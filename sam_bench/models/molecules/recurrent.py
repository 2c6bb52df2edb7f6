"""A bidirectional GRU over sequences of different lengths, on a CPU, faster than torch's in the backward pass.

In torch's GRU every time step of the backward pass fills and adds a gradient of all rows, so the cost grows with the
square of the length. Here the rows are split once, and the two directions share one product per time step. Values,
gradients and second derivatives (which measures of sharpness need) equal those of torch.nn.GRU up to rounding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def time_major(first: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Rows of (A, d) in the order that a recurrence reads them: (2, A) int64, forwards and backwards.

    first, lengths (n,) on the CPU: where each sequence begins, and how many rows it has. Also returns the sequences by
    length, the longest first (n,), and how many are still running at each time step.
    """
    by_length = lengths.argsort(descending=True, stable=True)
    start, size = first[by_length], lengths[by_length]
    going_on = size[None, :] > torch.arange(int(size[0]))[:, None]  # (steps, n)
    forwards = start + torch.arange(len(going_on))[:, None]
    backwards = start + size - 1 - torch.arange(len(going_on))[:, None]
    return torch.stack([forwards[going_on], backwards[going_on]]), by_length, going_on.sum(1).tolist()


def bidirectional(gru: nn.GRU, x: Tensor, state: Tensor, first: Tensor, lengths: Tensor) -> Tensor:
    """The output of a bidirectional `gru` of one layer for the rows x (A, d) and the states (n, d): (A, 2 d)."""
    rows, by_length, going_on = time_major(first, lengths)
    weights = [(getattr(gru, f"{name}_l0"), getattr(gru, f"{name}_l0_reverse")) for name in PARTS]
    (w_in, w_in_back), *others = weights
    w, b_in, b = (torch.stack(pair) for pair in others)
    inputs = [
        functional.linear(x[row], weight, bias) for row, weight, bias in zip(rows, (w_in, w_in_back), b_in, strict=True)
    ]
    h, w, b, found = state[by_length].expand(2, -1, -1), w.transpose(1, 2), b[:, None], []
    for given, running in zip(torch.stack(inputs).split(going_on, dim=1), going_on, strict=True):
        h = h[:, :running] if running < h.shape[1] else h
        recalled = torch.baddbmm(b, h, w)
        d = h.shape[2]
        reset, update = (given[..., : 2 * d] + recalled[..., : 2 * d]).sigmoid().chunk(2, -1)
        new = (given[..., 2 * d :] + reset * recalled[..., 2 * d :]).tanh()
        h = new + update * (h - new)
        found.append(h)
    y = torch.cat(found, 1)
    return torch.cat([y[direction][rows[direction].argsort()] for direction in (0, 1)], 1)


PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
