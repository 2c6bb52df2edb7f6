"""Metrics over several targets: computed per target over the existing labels, then averaged over the targets."""

from collections.abc import Callable, Sequence

import numpy as np

from sam_bench.errors import UsageError, did_you_mean

NAMED = 20  # of the targets that a note is about, as many are named


def compute(name: str, y_true: np.ndarray, y_pred: np.ndarray, targets: Sequence[str] = ()) -> tuple[float, list[str]]:
    """Metric `name` of y_true (n, k), NaN = missing, and y_pred (n, k), with notes on targets that were left out.

    For classes, y_true is (n,) and y_pred are probabilities (n, classes). A target with only one class has no ROC or
    precision-recall curve, and a target without labels has no metric. Such targets are left out and named in the notes.
    The value is NaN if no target is left or a prediction is not finite. Raises UsageError for an unknown name.
    """
    _known(name)
    if not np.isfinite(y_pred).all():
        return float("nan"), ["some predictions are not finite"]
    if y_true.ndim == 1 and y_pred.ndim == 2 and y_pred.shape[1] > 1:
        return _multiclass(name, y_true, y_pred), []
    y_true, y_pred = (a.reshape(len(a), -1).astype(np.float64) for a in (y_true, y_pred))
    per_target, needs_both = _PER_TARGET[name]
    values: list[float] = []
    lacking: dict[str, list[str]] = {}
    for column, (true, pred) in enumerate(zip(y_true.T, y_pred.T, strict=True)):
        present = ~np.isnan(true)
        true, pred = true[present], pred[present]
        label = targets[column] if targets else f"target {column}"
        if len(true) == 0:
            lacking.setdefault("no label", []).append(label)
        elif needs_both and true.min() == true.max():
            lacking.setdefault(f"only class {true[0]:g}", []).append(label)
        else:
            values.append(per_target(true, pred))
    notes = [_left_out(name, reason, labels, y_true.shape[1]) for reason, labels in lacking.items()]
    return (float(np.mean(values)) if values else float("nan")), notes


def _left_out(name: str, reason: str, labels: Sequence[str], targets: int) -> str:
    """One note for all targets that a metric leaves out for the same reason."""
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    verb = "have" if len(labels) > 1 else "has"
    return f"{len(labels)} of {targets} targets {verb} {reason}, left out of {name}: {', '.join(labels[:NAMED])}{more}"


def check(name: str, kind: str) -> None:
    """Raise UsageError unless `name` is a metric of tasks of this kind (regression, binary or multiclass)."""
    _known(name)
    if name not in SUITABLE[kind]:
        raise UsageError(f"{name} is no metric of {kind} targets: use metric={' or metric='.join(SUITABLE[kind])}.")


def _known(name: str) -> None:
    if name not in HIGHER_IS_BETTER:
        raise UsageError(f"There is no metric {name!r}. {did_you_mean(name, HIGHER_IS_BETTER)}")


def _multiclass(name: str, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    if name != "accuracy":
        raise UsageError(f"{name} is not defined for several classes; use metric=accuracy.")
    return float(np.mean(y_pred.argmax(1) == y_true))


def _roc_auc(true: np.ndarray, pred: np.ndarray) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic, ties count half; takes a tenth of scikit-learn's time."""
    from scipy.stats import rankdata

    positive = true > 0.5
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    return (rankdata(pred)[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)


def _prc_auc(true: np.ndarray, pred: np.ndarray) -> float:
    """Area under the precision-recall curve by the trapezoidal rule, as MoleculeNet (not average precision)."""
    from sklearn.metrics import auc, precision_recall_curve

    precision, recall, _ = precision_recall_curve(true > 0.5, pred)
    return float(auc(recall, precision))


def _rmse(true: np.ndarray, pred: np.ndarray) -> float:
    return float(np.sqrt(np.mean((true - pred) ** 2)))


def _mae(true: np.ndarray, pred: np.ndarray) -> float:
    return float(np.mean(np.abs(true - pred)))


def _accuracy(true: np.ndarray, pred: np.ndarray) -> float:
    return float(np.mean((pred > 0.5) == (true > 0.5)))


# name: (function of one target's labels and predictions, whether it needs both classes)
_PER_TARGET: dict[str, tuple[Callable[[np.ndarray, np.ndarray], float], bool]] = {
    "roc_auc": (_roc_auc, True),
    "prc_auc": (_prc_auc, True),
    "rmse": (_rmse, False),
    "mae": (_mae, False),
    "accuracy": (_accuracy, False),
}
HIGHER_IS_BETTER = {"roc_auc": True, "prc_auc": True, "accuracy": True, "rmse": False, "mae": False}
SUITABLE = {
    "regression": ("rmse", "mae"),
    "binary": ("roc_auc", "prc_auc", "accuracy"),
    "multiclass": ("accuracy",),
}
