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

    seed: Annotated[int, at_least(0), "seed of initialisation, order of the samples, augmentation and dropout"]
    split_seed: Annotated[int, at_least(0), "seed of the split into train, valid and test"]
    device: Annotated[str, _DEVICE, "`auto` uses a GPU if there is one"]
    threads: Annotated[int, at_least(1), "CPU threads; changes the last bits of results, not the run id"]
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "auto"],
        "`fp32` never uses TF32; `bf16` and `fp16` use autocast; `auto` is `bf16` where that is faster, else `fp32`",
    ]
    compile: Annotated[Literal[True, False, "auto"], "use torch.compile, for images only; `auto`: on a GPU"]
    deterministic: Annotated[bool, "a repeated run on the same machine gives the same bits"]
    test: Annotated[bool, "read the test split once, at the end; `sam-bench tune` never does"]


@dataclass(frozen=True)
class Train:
    """configs/train: how long a run trains, and in which batches."""

    epochs: Annotated[int, at_least(1), "passes over the train split"]
    max_steps: Annotated[int | None, at_least(1), "stop after this many steps, and mark the record as a short run"]
    budget: Annotated[
        Literal["epochs", "grad_evals", "seconds"],
        "what ends a run; `grad_evals`: as many as SAM needs for `epochs`, two per step",
    ]
    seconds: Annotated[float | None, above(0), "training time for `budget=seconds`"]
    batch_size: Annotated[int, at_least(1), "samples per step"]
    eval_batch_size: Annotated[int, at_least(1), "samples per batch in evaluation"]
    drop_last: Annotated[bool, "leave out the last batch of an epoch if it is incomplete"]
    clip_norm: Annotated[float | None, above(0), "clip the norm of the update direction to this value"]
    label_smoothing: Annotated[float, _SHARE, "label smoothing of the classification loss"]
    patience: Annotated[int | None, at_least(1), "stop after this many epochs without a better valid metric"]
    eval_every: Annotated[int, at_least(1), "evaluate the valid split every this many epochs"]
    checkpoint_seconds: Annotated[float, at_least(0), "seconds of work that a killed run loses at most"]
