"""Point 5: running statistics count steps, not passes."""

import copy

import pytest
import torch
from support.methods import CLASSES, SUBJECTS, Closure, frozen, make, net, train
from torch import nn

from sam_bench.contract import Verdict, robustness
from sam_bench.optim import SAM


@pytest.mark.parametrize("name", CLASSES)
def test_statistics_move_once_per_step(name):
    """Four kinds of layer: they are those that the first passes alone give."""
    result = robustness.statistics(SUBJECTS[name])
    assert result.verdict is Verdict.PASSED, f"{result.seen}. {result.advice}"


def test_instance_norm_with_running_statistics():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4, track_running_stats=True), nn.Flatten())
    optimizer, once = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model, rho=1.0), copy.deepcopy(model)

    def closure(model=model):
        loss = model(torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0))).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    closure(once)
    assert torch.equal(model[1].running_mean, once[1].running_mean)


def test_evaluation_mode_is_left_alone():
    model = net(norm=True).eval()
    before = frozen(model.state_dict()["1.running_mean"])
    train(make("sam", model), model, 3)
    assert torch.equal(model[1].running_mean, before)
    assert not model[1].training


def test_a_layer_that_is_converted_later_is_found():
    model = net(norm=True)
    optimizer = make("sam", model)
    model[1] = nn.SyncBatchNorm.convert_sync_batchnorm(model[1])
    train(optimizer, model, 4)
    assert model[1].num_batches_tracked == 4


@pytest.mark.parametrize("at", [0, 1])
def test_after_an_exception_the_next_step_counts_again(at):
    model = net(norm=True)
    optimizer = make("sam", model)

    def fail(model, losses):
        raise KeyError("x")

    with pytest.raises(KeyError):
        optimizer.step(Closure(model, 0, fail, at))
    assert model[1].num_batches_tracked == 0
    train(optimizer, model, 2)
    assert model[1].num_batches_tracked == 2
