"""What "fp32" means on a GPU, and what a run says that could not be compiled."""

import pytest
import torch

from sam_bench.config.compose import compose_specs
from sam_bench.training import life, precision
from sam_bench.training.precision import Arithmetic

GPU = torch.device("cuda", 0)


def config(*overrides):
    (cell,) = compose_specs(["dataset=digits", "model=fastnet_tiny", *overrides])
    return cell


def test_a_run_lets_float32_be_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert precision.tf32(GPU)
    assert not precision.tf32(torch.device("cpu"))
    life.build(config(), torch.device("cpu"))
    assert not precision.tf32(GPU)


@pytest.mark.parametrize(
    ("words", "device", "obstacle", "expected"),
    [
        ((), "cuda", "there is no C compiler", []),
        (("compile=auto",), "cuda", "", []),
        (("compile=auto",), "cpu", "there is no C compiler", []),
        (("compile=auto",), "cuda", "there is no C compiler",
         ["compile=auto: not compiled, because there is no C compiler"]),
    ],
)  # fmt: skip
def test_a_run_says_why_it_was_not_compiled(words, device, obstacle, expected, monkeypatch):
    monkeypatch.setattr(precision, "obstacle_to_compiling", lambda device: obstacle)
    made = Arithmetic("fp32", compiled=False)
    assert precision.remarks(config(*words).config, torch.device(device), made) == expected
