"""sam-bench speed images: a run of it at the smallest sizes, and what it refuses."""

import argparse

import pytest

from sam_bench import speed_images
from sam_bench.errors import UsageError


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    speed_images.add_arguments(parser)
    return parser.parse_args(words)


def test_it_runs(capsys):
    args = parse("--models", "fastnet_tiny", "--batch-size", "4", "--steps", "1", "--repeats", "1", "--device", "cpu")
    assert speed_images.main(args) == 0
    printed = capsys.readouterr().out
    for words in ("Augmentation alone", "RandAugment", "whole loop", "bf16, channels last", "n = 1 in turn"):
        assert words in printed


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
        speed_images.main(parse("--parts", "loop", "--device", "cpu", *words))
