"""Schedules against their closed forms, and against torch's own where torch has it."""

import math

import pytest
import torch

from sam_bench.training import lr_schedule


def test_constant_and_its_warm_up():
    assert lr_schedule.constant(7.0, 10.0) == 1.0
    assert lr_schedule.constant(0.5, 10.0, warmup_epochs=2.0) == 0.25
    assert lr_schedule.constant(2.0, 10.0, warmup_epochs=2.0) == 1.0


def test_cosine_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    for step in range(21):
        ours = lr_schedule.cosine(step / 4, 5.0, final_factor=0.1)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        reference.step()


def test_step_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 12], gamma=0.2)
    for step in range(20):
        ours = lr_schedule.step(step, 20, milestones=[0.3, 0.6], gamma=0.2)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_noam_rises_then_falls_exponentially():
    assert lr_schedule.noam(0.0, 10.0) == pytest.approx(0.1)
    assert lr_schedule.noam(1.0, 10.0) == pytest.approx(0.55)
    assert lr_schedule.noam(2.0, 10.0) == pytest.approx(1.0)
    assert lr_schedule.noam(6.0, 10.0) == pytest.approx(math.sqrt(0.1))
    assert lr_schedule.noam(10.0, 10.0) == pytest.approx(0.1)
