"""The recurrence of CoMPT's readout, held against torch.nn.GRU."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from sam_bench.models.molecules.recurrent import bidirectional, time_major


def setting(lengths):
    torch.manual_seed(0)
    gru = nn.GRU(5, 5, batch_first=True, bidirectional=True).double()
    lengths = torch.tensor(lengths)
    x = torch.randn(int(lengths.sum()), 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(len(lengths), 5, dtype=torch.float64, requires_grad=True)
    return gru, x, state, lengths.cumsum(0) - lengths, lengths


def of_torch(gru, x, state, first, lengths):
    padded = pad_sequence(x.split(lengths.tolist()), batch_first=True)
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(gru(packed, state.expand(2, -1, -1).contiguous())[0], batch_first=True)
    return torch.cat([row[:length] for row, length in zip(y, lengths.tolist(), strict=True)])


@pytest.mark.parametrize("lengths", [[3, 1, 7, 7, 2], [4], [1, 1], [2, 9]])
def test_values_and_gradients_are_those_of_torch(lengths):
    gru, x, state, first, lengths = setting(lengths)
    seen = [x, state, *gru.parameters()]
    one, other = (f(gru, x, state, first, lengths) for f in (bidirectional, of_torch))
    assert torch.allclose(one, other)
    weight = torch.randn_like(one)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), seen) for y in (one, other)), strict=True):
        assert torch.allclose(a, b)


def test_second_derivatives_are_those_of_torch():
    gru, x, state, first, lengths = setting([3, 1, 4])

    def product(function):
        y = function(gru, x, state, first, lengths)
        (gradient,) = torch.autograd.grad(y.square().sum(), gru.weight_hh_l0, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), gru.weight_hh_l0)[0]

    assert torch.allclose(product(bidirectional), product(of_torch))


def test_rows_by_time():
    rows, by_length, going_on = time_major(torch.tensor([0, 2, 5]), torch.tensor([2, 3, 1]))
    assert by_length.tolist() == [1, 0, 2]
    assert going_on == [3, 2, 1]
    assert rows.tolist() == [[2, 0, 5, 3, 1, 4], [4, 1, 5, 3, 0, 2]]
