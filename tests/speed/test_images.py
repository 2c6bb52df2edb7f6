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
    found = images.run(args)
    printed = capsys.readouterr().out
    for words in ("Augmentation alone", "RandAugment", "whole loop", "bf16, channels last", "n = 1 in turn"):
        assert words in printed
    rates = found["loop"]["fastnet_tiny"]
    assert len(rates["bare step"]) == 1
    assert rates["bare step"][0] > 0
    assert set(found["options"]["fastnet_tiny"]) > {"fp32, channels first", "bf16, channels last"}


def test_keys_of_the_model_are_set():
    words = ["--models", "wrn16_4", "--device", "cpu", "--parts", "loop"]
    narrow, _ = images._model("wrn16_4", parse(*words, "--set", "model.widen=1"), torch.device("cpu"))
    whole, _ = images._model("wrn16_4", parse(*words), torch.device("cpu"))
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in whole.parameters()) / 4


def test_compiled_models_beside_the_others(capsys, monkeypatch, tmp_path):
    """Two models in one call; torch's tracing without its code, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", without_code)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    words = ["--models", "fastnet_tiny", "fastnet_tiny", "--parts", "compile", "--device", "cpu"]
    images.run(parse(*words, "--batch-size", "4", "--steps", "1", "--repeats", "1"))
    printed = capsys.readouterr().out
    for precision in ("fp32", "bf16"):
        assert printed.count(f"First step of fastnet_tiny, {precision}, compiled anew: ") == 2
        assert printed.count(f"| {precision}, channels last, compiled |") == 2
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "fastnt"], "fastnet"),
        (["--repeats", "0"], "at least 1"),
        (["--models", "grover"], "not images"),
        (["--clock", "cpu", "--threads", "2"], "one thread"),
        (["--set", "base.lr=1"], "has no effect here"),
        (["--set", "model.dept=1"], "unknown key"),
    ],
)
def test_wrong_requests(words, message):
    with pytest.raises(UsageError, match=message):
        images.run(parse("--parts", "loop", "--device", "cpu", *words))
