import numpy as np
import pytest

from anomaly_detector.train.evaluate import BOX, judge, labelled, synthetic_anomalies
from anomaly_detector.train.pipeline import Recipe, build

ROWS = np.random.default_rng(0).normal(loc=[0, 50], scale=[1, 5], size=(2000, 2))


def test_precision_recall_and_areas_are_those_of_the_textbook():
    labels = np.array([False, False, True, True])
    found = labelled(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, True, False, True]), labels)
    assert found == pytest.approx({"precision": 0.5, "recall": 0.5, "roc_auc": 0.75, "pr_auc": 0.8333333})


def test_synthetic_anomalies_fill_the_widened_box_and_are_the_same_each_time():
    drawn = synthetic_anomalies(ROWS, count=20_000)
    width = np.ptp(ROWS, axis=0) * BOX
    np.testing.assert_allclose(np.ptp(drawn, axis=0), width, rtol=0.01)
    np.testing.assert_array_equal(drawn, synthetic_anomalies(ROWS, count=20_000))


def test_a_feature_that_is_never_negative_gets_no_negative_anomalies():
    rows = np.abs(ROWS) * [1, -1]
    drawn = synthetic_anomalies(rows, count=5000)
    assert drawn[:, 0].min() >= 0
    assert drawn[:, 1].max() <= 0


def test_a_constant_feature_does_no_harm():
    rows = np.column_stack([ROWS, np.full(len(ROWS), 7.0)])
    assert np.isfinite(synthetic_anomalies(rows, count=10)).all()


def test_a_detector_is_judged_by_labels_only_where_both_kinds_occur():
    model = build(Recipe(), ("a", "b")).fit(ROWS)
    far = np.vstack([ROWS[:100], ROWS[:10] + 100])
    labels = np.arange(110) >= 100
    assert judge(model, far, labels).pr_auc == pytest.approx(1.0, abs=0.05)
    assert judge(model, far, np.zeros(110, dtype=bool)).pr_auc is None
    assert judge(model, far, None).pr_auc is None


def test_a_trained_forest_tells_rows_from_synthetic_anomalies_better_than_chance():
    model = build(Recipe(), ("a", "b")).fit(ROWS)
    judged = judge(model, ROWS[-500:], None)
    assert judged.proxy_roc_auc > 0.8
    assert judged.anomaly_rate == pytest.approx(0.15, abs=0.05)
