"""Metrics against scikit-learn, and what they say about targets that cannot be scored."""

import numpy as np
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

from sam_bench.errors import UsageError
from sam_bench.metrics import HIGHER_IS_BETTER, compute


@pytest.fixture
def binary():
    rng = np.random.default_rng(0)
    true = (rng.random((200, 3)) < 0.3).astype(float)
    true[rng.random(true.shape) < 0.2] = np.nan
    return true, rng.random((200, 3)).round(1)  # rounded: many ties


def _columns(true, pred):
    return [(t[~np.isnan(t)], p[~np.isnan(t)]) for t, p in zip(true.T, pred.T, strict=True)]


def test_roc_auc_is_that_of_sklearn_with_ties_and_missing_labels(binary):
    value, notes = compute("roc_auc", *binary)
    assert value == pytest.approx(np.mean([roc_auc_score(t, p) for t, p in _columns(*binary)]), abs=1e-12)
    assert notes == []


def test_prc_auc_is_the_trapezoid(binary):
    expected = []
    for t, p in _columns(*binary):
        precision, recall, _ = precision_recall_curve(t, p)
        expected.append(auc(recall, precision))
    assert compute("prc_auc", *binary)[0] == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("name", ["roc_auc", "prc_auc"])
def test_a_target_with_one_class_is_reported_and_left_out(name, binary):
    true, pred = binary
    alone = compute(name, true[:, 1:], pred[:, 1:])[0]
    true[:, 0] = np.where(np.isnan(true[:, 0]), np.nan, 0.0)
    value, notes = compute(name, true, pred, ["first", "second", "third"])
    assert value == alone
    assert len(notes) == 1
    assert "first" in notes[0]
    assert "class 0" in notes[0]


def test_nothing_left_is_nan_not_a_half():
    value, notes = compute("roc_auc", np.array([[1.0, np.nan], [1.0, np.nan]]), np.zeros((2, 2)))
    assert np.isnan(value)
    assert len(notes) == 2


def test_predictions_that_are_not_finite_give_nan():
    value, notes = compute("rmse", np.zeros((2, 1)), np.array([[0.0], [np.inf]]))
    assert np.isnan(value)
    assert notes


def test_regression_metrics_by_hand():
    true, pred = np.array([[1.0, 0.0], [np.nan, 4.0]]), np.array([[3.0, 0.0], [9.0, 0.0]])
    assert compute("rmse", true, pred)[0] == pytest.approx((2 + np.sqrt(8)) / 2)
    assert compute("mae", true, pred)[0] == pytest.approx((2 + 2) / 2)


def test_accuracy_of_classes_and_of_binary_targets():
    assert compute("accuracy", np.array([0, 2, 1]), np.eye(3)[[0, 2, 2]])[0] == pytest.approx(2 / 3)
    assert compute("accuracy", np.array([[1.0], [0.0]]), np.array([[0.9], [0.8]]))[0] == 0.5


def test_unknown_metric_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="roc_auc"):
        compute("rocauc", np.zeros((1, 1)), np.zeros((1, 1)))


def test_every_metric_has_a_direction():
    assert HIGHER_IS_BETTER == {"roc_auc": True, "prc_auc": True, "accuracy": True, "rmse": False, "mae": False}


def test_forty_targets_of_one_class_are_one_note():
    true = np.zeros((4, 41))
    true[:2, 0] = 1
    _, notes = compute("roc_auc", true, np.random.default_rng(0).random((4, 41)), [f"t{i}" for i in range(41)])
    (note,) = notes
    assert note.startswith("40 of 41 targets have only class 0, left out of roc_auc: t1, t2, ")
    assert note.endswith(" t20 and 20 more")
