"""The types of a record: every key with its meaning and bounds. docs/record.md is made of these. No torch."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict


@dataclass(frozen=True)
class Key:
    """What a key of a record means, and what its value must hold besides its type; docs/record.md is made of these."""

    meaning: str
    pattern: str | None = None  # a regular expression for the whole of a text
    least: float | None = None  # the bounds of a number
    most: float | None = None


NAME = r"(?![=+\-@])[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}"  # one line that a spreadsheet takes for text
LINE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,200}"
RUN_ID = r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,254}"
SHA256 = r"[0-9a-f]{64}"
MANY = 2**53  # counts up to here are exact in every program that reads JSON
AGES = 1e12  # seconds


class Labels(TypedDict):
    """The names of the parts of a run in tables."""

    dataset: Annotated[str, Key("YAML stem of the data set", NAME)]
    model: Annotated[str, Key("YAML stem of the model", NAME)]
    base: Annotated[str, Key("YAML stem of the base optimizer", NAME)]
    optimizer: Annotated[str, Key("YAML stem of the method", NAME)]
    seed: Annotated[int, Key("seed of initialisation and order")]
    split_seed: NotRequired[Annotated[int, Key("seed of the split")]]


class Training(TypedDict, total=False):
    """Options of training that say how much was spent."""

    epochs: Annotated[float | None, Key("budget in epochs", least=0, most=MANY)]
    max_steps: Annotated[int | None, Key("limit of steps for a short trial run", least=0, most=MANY)]
    budget: Annotated[str, Key("epochs, grad_evals or seconds: what all methods get equally", LINE)]
    seconds: Annotated[float | None, Key("budget in seconds", least=0, most=AGES)]
    batch_size: Annotated[int, Key("samples of a step", least=1, most=MANY)]
    eval_batch_size: Annotated[int, Key("samples per batch in evaluation", least=1, most=MANY)]
    patience: Annotated[
        int | None, Key("stops after this many epochs without a better valid metric", least=0, most=MANY)
    ]


class Configuration(TypedDict, total=False):
    """The resolved configuration, as Hydra made it. Its groups hold the options of their components."""

    seed: Annotated[int, Key("seed of initialisation and order")]
    split_seed: Annotated[int, Key("seed of the split")]
    device: Annotated[str, Key("auto, cpu or cuda[:n]", LINE)]
    threads: Annotated[int, Key("CPU threads that were asked for", least=1)]
    precision: Annotated[str, Key("auto, fp32, bf16 or fp16", LINE)]
    compile: Annotated[Literal[True, False, "auto"], Key("whether torch.compile was asked for")]
    deterministic: Annotated[bool, Key("whether torch had to use deterministic algorithms")]
    test: Annotated[bool, Key("whether the test split was read; false for a tuning trial")]
    tuned: Annotated[dict[str, Any], Key("the tuning study whose winner it uses: study, trials, hash, keys")]
    dataset: Annotated[dict[str, Any], Key("options of the data set")]
    model: Annotated[dict[str, Any], Key("options of the model")]
    base: Annotated[dict[str, Any], Key("options of the base optimizer")]
    optimizer: Annotated[dict[str, Any], Key("options of the method")]
    schedule: Annotated[dict[str, Any], Key("options of the learning-rate schedule")]
    train: Annotated[Training, Key("options of training")]
    logger: Annotated[dict[str, Any], Key("options of the mirror")]


class Hardware(TypedDict, total=False):
    """The machine that trained."""

    device: Annotated[str, Key("cpu or cuda", LINE)]
    name: Annotated[str, Key("processor or GPU", LINE)]
    cores: Annotated[int | None, Key("processor cores of the machine", least=1)]
    threads: Annotated[int, Key("threads of torch; sums depend on it", least=1)]
    processes: Annotated[int, Key("number of processes (ranks) that trained together", least=1)]
    memory_bytes: Annotated[int, Key("main memory; on a GPU: its own memory", least=0, most=MANY)]
    cells_on_gpu: Annotated[
        int, Key("cells that its sweep ran at once on the GPU; above 1 the timings are shared", least=1)
    ]


class Provenance(TypedDict, total=False):
    """Where a run comes from. Records from before a key was there lack it."""

    commit: Annotated[str | None, Key("commit of the source tree; null for an installed package", LINE)]
    dirty: Annotated[bool | None, Key("whether the source tree was changed since that commit")]
    versions: Annotated[dict[str, str], Key("versions of sam_bench, Python and the libraries that touch a number")]
    own_code: Annotated[
        dict[str, str], Key("SHA-256 of the file of each module outside this package that a YAML names")
    ]
    hardware: Annotated[Hardware, Key("the machine that trained")]
    precision: Annotated[str, Key("fp32, bf16 or fp16: what `precision: auto` came to", LINE)]
    tf32: Annotated[bool, Key("whether a GPU might round inputs of float32 products and convolutions to TF32")]
    compiled: Annotated[bool, Key("whether torch.compile was used")]
    started: Annotated[str, Key("time of the first start, ISO 8601, UTC", LINE)]
    finished: Annotated[str, Key("time of the end, ISO 8601, UTC", LINE)]
    resumed: Annotated[int, Key("how often it resumed from a checkpoint", least=0, most=MANY)]


class Metric(TypedDict):
    """The metric that chooses the best epoch and fills the table."""

    name: Annotated[str, Key("such as roc_auc", NAME)]
    higher_is_better: Annotated[bool, Key("its direction")]


class Data(TypedDict):
    """The data that a run saw."""

    sha256: Annotated[str, Key("checksum of the data", LINE)]
    split_sha256: Annotated[str, Key("checksum of the splits", LINE)]
    verified: Annotated[bool, Key("whether they are the published data set")]
    notes: Annotated[list[str], Key("notes for the reader, one sentence each")]
    sizes: Annotated[dict[str, int], Key("samples of each split: train, valid, test")]


class RunError(TypedDict):
    """Why a run failed."""

    type: Annotated[str, Key("class of the exception", LINE)]
    message: Annotated[str, Key("its text")]
    traceback: NotRequired[Annotated[str, Key("traceback: where the exception was raised")]]
    step: NotRequired[Annotated[int | None, Key("training step at which it failed", least=0, most=MANY)]]


Files = TypedDict(
    "Files",
    {
        "best.pt": Annotated[str, Key("weights of the best epoch", SHA256)],
        "curve.csv": Annotated[str, Key("the learning curve, one row per epoch", SHA256)],
    },
    total=False,
)
Files.__doc__ = "SHA-256 of the files beside the record."


class Spent(TypedDict, total=False):
    """What a run did and what it cost."""

    best_epoch: Annotated[int, Key("epoch with the best valid metric, from 1", least=0, most=MANY)]
    epochs: Annotated[int, Key("epochs trained", least=0, most=MANY)]
    steps: Annotated[int, Key("training steps", least=0, most=MANY)]
    samples: Annotated[int, Key("training samples seen", least=0, most=MANY)]
    grad_evals: Annotated[
        float, Key("forward-backward passes; a pass over part of a batch counts as that part", least=0, most=MANY)
    ]
    grad_evals_per_step: Annotated[float | None, Key("their mean per step", least=0, most=MANY)]
    sam_fraction: Annotated[float | None, Key("share of steps that took the second gradient", least=0, most=1)]
    skipped_steps: Annotated[int, Key("steps skipped because of an overflow", least=0, most=MANY)]
    train_seconds: Annotated[float, Key("seconds of training, evaluation and set-up apart", least=0, most=AGES)]
    eval_seconds: Annotated[float, Key("seconds of evaluation", least=0, most=AGES)]
    setup_seconds: Annotated[float, Key("seconds of set-up and checkpoints within training", least=0, most=AGES)]
    throughput: Annotated[float | None, Key("training samples per second, without the warm-up", least=0, most=MANY)]
    peak_memory_bytes: Annotated[int | None, Key("largest memory held; on a GPU: by torch", least=0, most=MANY)]


class Attempt(Spent):
    """What the record of a finished and of a failed run have in common."""

    schema: Annotated[int, Key("version of this format: 2, or 1 without `sha256`", least=1)]
    run_id: Annotated[str, Key("labels, and a hash of the configuration that decides the result", RUN_ID)]
    experiment: Annotated[str | None, Key("YAML stem of the experiment, null for a single run", NAME)]
    labels: Annotated[Labels, Key("the names of its parts in tables")]
    config: Annotated[Configuration, Key("the resolved configuration")]
    overrides: NotRequired[Annotated[list[str], Key("overrides that repeat it: `sam-bench run OVERRIDES`")]]
    short: Annotated[bool, Key("whether train.max_steps cut it short")]
    provenance: Annotated[Provenance, Key("code, versions, machine, times")]
    metrics: Annotated[dict[str, float | None], Key("split/metric: value; null where it is not defined", most=1e100)]
    files: NotRequired[Annotated[Files, Key("checksums of the files beside it")]]
    sha256: NotRequired[Annotated[str, Key("checksum of all the rest of this record", SHA256)]]
    path: NotRequired[Annotated[str, Key("not stored: the folder that the record was read from")]]


class Finished(Attempt):
    """The record of a finished run: all keys of `Spent` are there."""

    status: Annotated[Literal["finished"], Key("finished")]
    metric: Annotated[Metric, Key("what was measured")]
    parameters: Annotated[int, Key("parameters of the model", least=0, most=MANY)]
    data: Annotated[Data, Key("the data that it saw")]


class Failed(Attempt):
    """The record of a run that failed; it is no result."""

    status: Annotated[Literal["failed"], Key("failed")]
    error: Annotated[RunError, Key("why it failed")]
    metric: NotRequired[Annotated[Metric, Key("as above, if the run got that far")]]
    parameters: NotRequired[Annotated[int, Key("as above, if the run got that far", least=0, most=MANY)]]
    data: NotRequired[Annotated[Data, Key("as above, if the run got that far")]]


Record = Finished | Failed
