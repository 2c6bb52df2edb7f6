"""The types of added records: what `sam-bench sharpness` measures on a finished run."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from sam_bench.api import AGES, LINE, MANY, RUN_ID, SHA256, Key, Labels

LARGE = 1e100


class Seen(TypedDict):
    """The data of the run that was measured."""

    sha256: Annotated[str, Key("checksum of the data", LINE)]
    split_sha256: Annotated[str, Key("checksum of the splits", LINE)]


class Subset(TypedDict):
    """The samples on which the loss was taken."""

    split: Annotated[str, Key("train", LINE)]
    n: Annotated[int, Key("samples", least=1, most=MANY)]
    of: Annotated[int, Key("samples of the split", least=1, most=MANY)]
    sha256: Annotated[str, Key("checksum of their places", SHA256)]


class Spread(TypedDict):
    """A quantity that was drawn several times."""

    mean: Annotated[float | None, Key("mean", most=LARGE)]
    std: Annotated[float | None, Key("sample standard deviation, null for one value", most=LARGE)]
    n: Annotated[int, Key("how many values", least=0, most=MANY)]


class Trace(Spread):
    """The trace of the Hessian by random probes."""

    standard_error: Annotated[float | None, Key("std / sqrt(n)", most=LARGE)]
    converged: Annotated[bool, Key("whether the standard error is small beside the mean")]


class Eigenvalue(TypedDict):
    """The largest eigenvalue of the Hessian."""

    value: Annotated[float | None, Key("the eigenvalue", most=LARGE)]
    residual: Annotated[float | None, Key("norm of H v - value v", most=LARGE)]
    products: Annotated[int, Key("Hessian products that it took", least=0, most=MANY)]
    converged: Annotated[bool, Key("whether the residual is within the tolerance")]


class SharpnessSettings(TypedDict):
    """What a measurement of sharpness depends on."""

    samples: Annotated[int, Key("samples of the train split", least=1, most=MANY)]
    m: Annotated[int, Key("samples of a group of m-sharpness", least=1, most=MANY)]
    rho: Annotated[float, Key("radius", least=0, most=LARGE)]
    ascent_steps: Annotated[int, Key("steps to the worst point of the ball", least=1, most=MANY)]
    tolerance: Annotated[float, Key("relative, of the eigenvalue", least=0, most=LARGE)]
    products: Annotated[int, Key("Hessian products at most", least=1, most=MANY)]
    probes: Annotated[int, Key("random vectors of the trace", least=1, most=MANY)]
    directions: Annotated[int, Key("pairs of random points in the ball", least=1, most=MANY)]
    seed: Annotated[int, Key("of the subset and the random vectors")]


class Measured(TypedDict):
    """What all added records have in common. Further keys say more: `seconds`, `provenance` as in a record."""

    schema: Annotated[int, Key("version of this format: 2, or 1 without `sha256`", least=1)]
    run_id: Annotated[str, Key("the run that was measured", RUN_ID)]
    labels: Annotated[Labels, Key("as in its record")]
    weights_sha256: Annotated[str, Key("checksum of the weights that were measured", SHA256)]
    data: Annotated[Seen, Key("as in its record")]
    seconds: NotRequired[Annotated[float, Key("how long it took", least=0, most=AGES)]]
    sha256: NotRequired[Annotated[str, Key("checksum of all the rest of this record", SHA256)]]


class OnSubset(Measured):
    """A measurement of the training loss around the weights."""

    subset: Annotated[Subset, Key("the samples on which the loss was taken")]
    mode: Annotated[str, Key("eval: no dropout, running statistics fixed", LINE)]
    dtype: Annotated[str, Key("of the arithmetic", LINE)]


class Sharpness(OnSubset):
    """Curvature, rises in a ball, and the gap between test and train."""

    kind: Annotated[Literal["sharpness"], Key("sharpness")]
    settings: Annotated[SharpnessSettings, Key("what the measurement depends on")]
    largest_eigenvalue: Annotated[Eigenvalue, Key("of the Hessian")]
    trace: Annotated[Trace, Key("of the Hessian")]
    m_sharpness: Annotated[Spread, Key("rise of the loss to the worst point of the ball, mean over groups of m")]
    ball: Annotated[Spread, Key("mean rise of the loss at random points of the ball")]
    gap: Annotated[dict[str, float | None], Key("loss, metric: test minus train; train/...: on the train split",
                                                most=LARGE)]  # fmt: skip


class Landscape(OnSubset):
    """The training loss in a plane through the weights."""

    kind: Annotated[Literal["landscape"], Key("landscape")]
    settings: Annotated[dict[str, Any], Key("samples, m, points, span, seed")]
    axis: Annotated[list[float], Key("places along both axes, increasing", most=LARGE)]
    losses: Annotated[list[list[float | None]], Key("one row for each place along the second axis", most=LARGE)]


class Gradients(Measured):
    """Successive gradients: the run trained again, to the same bits, and watched."""

    kind: Annotated[Literal["gradients"], Key("gradients")]
    settings: Annotated[dict[str, Any], Key("every, rho")]
    same_weights: Annotated[bool, Key("whether the training ended at the weights of the run")]
    steps: Annotated[int, Key("training steps", least=0, most=MANY)]
    rows: Annotated[dict[str, list[float | None]], Key("column: values, one for each watched step", most=LARGE)]


Measurement = Sharpness | Landscape | Gradients
