"""The options of a run itself: those at the top of the configuration, and those of configs/train."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from sam_bench.options.rules import Range, above, at_least, stated

_DEVICE = stated("auto, cpu, cuda or cuda:<number>", lambda v: bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(v))))
_SHARE = Range(lambda v: 0 <= v < 1, "in [0, 1)")


@dataclass(frozen=True)
class Run:
    """configs/config.yaml, without its groups."""

    seed: Annotated[int, at_least(0), "initialisation, order of the samples, augmentation, dropout"]
    split_seed: Annotated[int, at_least(0), "which molecules or images go to train, valid and test"]
    device: Annotated[str, _DEVICE, "`auto` takes the GPU where there is one"]
    threads: Annotated[int, at_least(1), "on the CPU; other numbers give other last bits, and are not in the run id"]
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "auto"],
        "`fp32` is without TF32 on a GPU; `bf16` and `fp16` are autocast; `auto` is `bf16` where it is faster",
    ]
    compile: Annotated[Literal[True, False, "auto"], "torch.compile, for images; `auto` on a GPU"]
    deterministic: Annotated[bool, "the same bits in every run on one machine"]
    test: Annotated[bool, "read the test split once, at the end; `sam-bench tune` never does"]


@dataclass(frozen=True)
class Train:
    """configs/train: how long and in what portions a run trains."""

    epochs: Annotated[int, at_least(1), "passes over the train split"]
    max_steps: Annotated[int | None, at_least(1), "stop after so many steps, and mark the record as a short run"]
    budget: Annotated[
        Literal["epochs", "grad_evals", "seconds"], "what ends a run; `grad_evals` are those of SAM, two a step"
    ]
    seconds: Annotated[float | None, above(0), "training time, with `budget=seconds`"]
    batch_size: Annotated[int, at_least(1), "samples in a step"]
    eval_batch_size: Annotated[int, at_least(1), "samples at once in an evaluation"]
    drop_last: Annotated[bool, "leave out an incomplete last batch of an epoch"]
    clip_norm: Annotated[float | None, above(0), "largest norm of the descent direction"]
    label_smoothing: Annotated[float, _SHARE, "of the loss of classes"]
    patience: Annotated[int | None, at_least(1), "stop after so many epochs without a better valid metric"]
    eval_every: Annotated[int, at_least(1), "epochs between two looks at the valid split"]
    checkpoint_seconds: Annotated[float, at_least(0), "a killed run loses at most so much work"]
