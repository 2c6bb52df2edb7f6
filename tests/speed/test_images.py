"""sam-bench speed images: a run of it at the smallest sizes, and what it refuses."""

import argparse
import os

import pytest
import torch
from support.torchrun_cells import without_code

from sam_bench.errors import UsageError
from sam_bench.speed import images


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    images.add_arguments(parser)
    return parser.parse_args(words)


def test_it_runs(capsys):
    args = parse("--models", "fastnet_tiny", "--batch-size", "4", "--steps", "1", "--repeats", "1", "--device", "cpu")
    assert images.main(args) == 0
    printed = capsys.readouterr().out
    for words in ("Augmentation alone", "RandAugment", "whole loop", "bf16, channels last", "n = 1 in turn"):
        assert words in printed


def test_compiled_models_beside_the_others(capsys, monkeypatch, tmp_path):
    """Two models in one call; torch's tracing without its code, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", without_code)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    words = ["--models", "fastnet_tiny", "fastnet_tiny", "--parts", "compile", "--device", "cpu"]
    assert images.main(parse(*words, "--batch-size", "4", "--steps", "1", "--repeats", "1")) == 0
    printed = capsys.readouterr().out
    for precision in ("fp32", "bf16"):
        assert printed.count(f"First step of fastnet_tiny, {precision}, compiled anew: ") == 2
        assert printed.count(f"| {precision}, channels last, compiled |") == 2
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "fastnt"], "fastnet"),
        (["--repeats", "0"], "from 1 on"),
        (["--models", "grover"], "not images"),
        (["--cpu-time"], "one thread"),
    ],
)
def test_wrong_requests(words, message):
    with pytest.raises(UsageError, match=message):
        images.main(parse("--parts", "loop", "--device", "cpu", *words))
