"""When is to be recorded what makes rows anomalous, and what of several pods' answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_operator.domain.importance import MOST_FEATURES, due, ends, latest, merge, metrics

HOUR = 3600.0
NOW = 500_000 * HOUR + 120


def test_the_hour_that_has_ended_is_due_once() -> None:
    period = due(NOW, HOUR, since=0.0, recorded=None)
    assert period is not None
    assert (period.number, period.start, period.end) == (499_999, NOW - 120 - HOUR, NOW - 120)
    assert due(NOW, HOUR, since=0.0, recorded=499_998) == period
    assert due(NOW, HOUR, since=0.0, recorded=499_999) is None
    assert due(ends(NOW, HOUR) - 1, HOUR, since=0.0, recorded=499_999) is None
    assert due(ends(NOW, HOUR), HOUR, since=0.0, recorded=499_999) is not None


def test_a_version_that_did_not_serve_then_is_not_asked_about_it() -> None:
    assert due(NOW, HOUR, since=NOW - 60, recorded=None) is None
    assert due(NOW, HOUR, since=NOW - 180, recorded=None) is not None


@given(st.lists(st.floats(0, 40 * HOUR), min_size=1).map(sorted), st.sets(st.integers(0, 60)))
def test_whatever_is_looked_and_restarted_no_period_is_recorded_twice(moments, restarts) -> None:
    """A restart forgets what this process knew; the registry still knows."""
    registry: list[int] = []
    known: int | None = None
    for number, now in enumerate(moments):
        if number in restarts:
            known = None
        if due(now, HOUR, since=0.0, recorded=known) is None:
            continue
        period = due(now, HOUR, since=0.0, recorded=latest(registry))
        if period is not None:
            registry.append(period.number)
            assert period.end <= now
        known = latest(registry)
    assert len(registry) == len(set(registry))
    assert latest(registry) in (None, int(moments[-1] // HOUR) - 1)


def answer(rows: int, anomalies: tuple[float, ...] = (), **means: float) -> dict[str, object]:
    return {"rows": rows, "meanAbsoluteShap": means, "anomalies": [{"score": score} for score in anomalies]}


def test_pods_count_by_the_rows_that_they_saw() -> None:
    found = merge({"one": answer(30, cpu=0.1, memory=0.2), "two": answer(10, cpu=0.5, memory=0.2)})
    assert found.rows == 40
    assert found.mean_absolute_shap == pytest.approx({"cpu": 0.2, "memory": 0.2})
    assert metrics(found) == pytest.approx({"mean_abs_shap/cpu": 0.2, "mean_abs_shap/memory": 0.2, "rows": 40.0})


def test_the_most_anomalous_of_all_pods_come_first_with_their_pod() -> None:
    found = merge({"one": answer(1, (0.6, 0.5)), "two": answer(1, (0.7,) + (0.1,) * 20)})
    assert [(one["score"], one["pod"]) for one in found.anomalies[:3]] == [(0.7, "two"), (0.6, "one"), (0.5, "one")]
    assert len(found.anomalies) == 10


def test_the_largest_features_are_kept_and_names_are_what_mlflow_takes() -> None:
    found = merge({"one": answer(1, **{f"f{n:03}": float(n) for n in range(300)})})
    assert len(found.mean_absolute_shap) == MOST_FEATURES
    assert next(iter(found.mean_absolute_shap)) == "f299"
    assert "mean_abs_shap/load_1m_ _" in metrics(merge({"one": answer(1, **{"load(1m) %": 1.0})}))


@pytest.mark.parametrize(
    "malformed",
    [
        {},
        {"rows": "3", "meanAbsoluteShap": {"cpu": 1.0}},
        {"rows": 3, "meanAbsoluteShap": [1.0]},
        {"rows": 0, "meanAbsoluteShap": {}, "anomalies": {}},
        {"rows": 0, "meanAbsoluteShap": {}, "anomalies": [None, {"score": "high"}]},
    ],
)
def test_a_malformed_answer_spoils_nothing(malformed: dict[str, object]) -> None:
    assert merge({"one": answer(2, cpu=0.5), "two": malformed}) == merge({"one": answer(2, cpu=0.5)})
