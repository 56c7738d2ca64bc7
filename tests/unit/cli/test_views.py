"""What the reading commands print of a model."""

import pytest

from anomaly_operator.cli import views
from anomaly_operator.cli.memory import Remembered
from anomaly_operator.cli.tables import age, evidence, number, percent, table
from anomaly_operator.domain.codec import status_from_json
from anomaly_operator.domain.records import Evidence
from anomaly_operator.domain.times import parse_time

NOW = parse_time("2026-03-01T12:10:00Z")
CONDITION = {"observedGeneration": 2, "lastTransitionTime": "2026-03-01T12:00:00Z"}


@pytest.fixture
def rolled_back():
    return {
        "metadata": {
            "name": "cpu-watch", "namespace": "demo", "generation": 2, "creationTimestamp": "2026-03-01T10:00:00Z",
        },
        "spec": {"model": {"name": "anomaly-detection-production", "alias": "champion"}},
        "status": {
            "observedGeneration": 2,
            "phase": "Degraded",
            "step": "RolledBack",
            "message": "version 4 was rolled back: 12 % errors, limit 1 %",
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "RolledBack", "message": "not wanted", **CONDITION},
                {"type": "Stalled", "status": "True", "reason": "RolledBack", "message": "waits", **CONDITION},
                {"type": "Servable", "status": "True", "reason": "Serving", "message": "version 2 serves", **CONDITION},
            ],
            "active": {
                "color": "green", "revision": "bbb", "version": "2", "digest": "sha256:" + "b" * 64,
                "readyReplicas": 3, "since": "2026-03-01T12:00:00Z",
            },
            "lastReport": {"time": "2026-03-01T12:09:00Z", "errorRate": 0.0, "driftConfidence": 0.2,
                           "driftVerdict": "ok", "anomalyRate": 0.148, "latencyP95Milliseconds": 0.31, "requests": 1200,
                           "pods": 3},
            "quarantine": [{"revision": "ddd", "version": "4", "reason": "ErrorRateExceeded", "message": "12 % errors",
                            "since": "2026-03-01T12:00:00Z"}],
            "history": [
                {"revision": "ddd", "version": "4", "outcome": "RolledBack", "reason": "ErrorRateExceeded",
                 "active": "bbb", "activeVersion": "2", "endedAt": "2026-03-01T12:00:00Z",
                 "evidence": [{"metric": "errorRate", "value": 0.1234567, "limit": 0.01, "samples": 700}]},
                {"revision": "ccc", "version": "3", "outcome": "Aborted", "reason": "AnomalyRateOutOfRange",
                 "active": "bbb", "activeVersion": "2", "endedAt": "2026-03-01T11:45:00Z"},
                {"revision": "ddd", "version": "4", "outcome": "Promoted", "reason": "Promoted",
                 "active": "ddd", "activeVersion": "4", "endedAt": "2026-03-01T11:50:00Z",
                 "who": {"source": "command", "claimed": "jane"}},
                {"revision": "bbb", "version": "2", "outcome": "Promoted", "reason": "Deployed",
                 "active": "bbb", "activeVersion": "2", "endedAt": "2026-03-01T11:00:00Z"},
            ],
        },
    }  # fmt: skip


def entries(model):
    return status_from_json(model["status"]).history


def test_a_listing_has_one_line_a_model_sorted_by_namespace(rolled_back):
    other = {"metadata": {"name": "zz", "namespace": "alpha"}, "spec": rolled_back["spec"]}

    lines = views.listing([rolled_back, other], NOW, everywhere=True).splitlines()

    assert lines[0].split() == (
        ["NAMESPACE", "NAME", "PHASE", "ACTIVE", "VERSION", "CANDIDATE", "DRIFT", "ERRORS", "READY", "AGE"]
    )
    assert lines[1].split() == ["alpha", "zz", *["-"] * 8]
    assert lines[2].split() == ["demo", "cpu-watch", "Degraded", "green", "2", "-", "0.2", "0%", "False", "2h"]


def test_an_empty_listing_says_so():
    assert views.listing([], NOW, everywhere=False) == "No AnomalyModels found."


def test_the_overview_names_tracks_report_conditions_and_quarantine(rolled_back):
    text = views.overview(rolled_back, NOW)

    assert "demo/cpu-watch" in text
    assert "anomaly-detection-production, alias champion" in text
    assert "version 4 was rolled back: 12 % errors, limit 1 %" in text
    assert "errors 0%, drift 0.2 (ok), anomalies 14.8%, p95 0.31 ms, 1200 requests from 3 pods, 60s ago" in text
    assert "ddd           4         ErrorRateExceeded" in text


def test_the_overview_of_a_model_without_status_has_no_errors(rolled_back):
    del rolled_back["status"]

    assert "none yet" in views.overview(rolled_back, NOW)


def test_the_overview_says_when_the_operator_lags_behind_the_spec(rolled_back):
    rolled_back["metadata"]["generation"] = 3

    assert "has not taken up the newest spec" in views.overview(rolled_back, NOW)


def test_the_history_shows_who_asked_and_the_evidence(rolled_back):
    text = views.history([Remembered(entry=entry, kept_in=("status", "registry")) for entry in entries(rolled_back)])

    assert "errorRate 0.1235 (limit 0.01, 700 samples)" in text
    assert "jane" in text
    assert "automatic" in text
    assert "status+registry" in text


@pytest.mark.parametrize(
    ("at", "version"),
    [
        ("2026-03-01T12:05:00Z", "2"),
        ("2026-03-01T11:55:00Z", "4"),
        ("2026-03-01T11:47:00Z", "2"),
        ("2026-03-01T11:00:00Z", "2"),
    ],
)
def test_what_served_at_a_time_follows_the_switches_and_not_the_aborts(rolled_back, at, version):
    assert views.served_at(entries(rolled_back), parse_time(at)).active_version == version


def test_a_time_before_the_history_is_unknown(rolled_back):
    assert views.served_at(entries(rolled_back), parse_time("2026-03-01T10:59:59Z")) is None


def test_why_tells_the_decision_with_its_numbers_and_what_holds_the_model_up(rolled_back):
    text = views.why(rolled_back)

    assert "Version 2 (bbb) serves users." in text
    assert "version 4 (ddd) was rolled back at 2026-03-01T12:00:00.000Z by automatic, reason ErrorRateExceeded" in text
    assert "errorRate 0.1235 (limit 0.01, 700 samples)" in text
    assert "Condition Ready is False (RolledBack)" in text
    assert "Condition Stalled is True" in text
    assert "Servable" not in text
    assert "quarantined (ErrorRateExceeded)" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d"), (-5, "0s")],
)
def test_ages_read_as_kubectl_shows_them(seconds, shown):
    assert age(NOW - seconds, NOW) == shown


def test_columns_are_aligned_and_empty_cells_are_dashes():
    assert table(["A", "LONGER"], [("value", None), ("", "x")]) == "A       LONGER\nvalue   -\n-       x"


def test_numbers_keep_four_digits_and_shares_three():
    assert (number(0.123456), number(None), percent(0.98765), percent(None)) == ("0.1235", "", "98.8%", "")


def test_evidence_in_words_wins_over_its_numbers():
    assert evidence([Evidence(metric="latencyP95", value=9.1, text="p95 9.1 ms is over 7.634 ms")]) == (
        "p95 9.1 ms is over 7.634 ms"
    )
