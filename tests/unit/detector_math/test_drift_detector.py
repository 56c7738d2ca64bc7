"""The detector stays quiet on the data it was trained on and speaks when the world has moved."""

import json

import numpy as np
import pytest
import streams

from anomaly_detector.config import DriftConfig
from anomaly_detector.drift import DriftDetector, calibrate, systematic
from anomaly_detector.drift.statistics import DEFAULT_THRESHOLDS
from anomaly_detector.drift.voting import confirmed, votes_of

NAMES = ("cpu", "mem", "net")
WINDOW = 200
CONFIG = DriftConfig(window=WINDOW)
TRAINING = streams.phases(12_000, 3, seed=1)
SCORES = streams.score_of(TRAINING)
CALIBRATION = calibrate(TRAINING, SCORES, window=WINDOW, features=NAMES, rows_per_second=5.0)
SAMPLE = systematic(len(TRAINING), 2000)


def detector(config=CONFIG, *, reference=TRAINING[SAMPLE], calibration=CALIBRATION):
    return DriftDetector(
        NAMES,
        config,
        reference=reference,
        reference_scores=None if reference is None else streams.score_of(reference),
        calibration=calibration,
    )


def test_fresh_rows_of_the_same_kind_are_no_drift():
    verdicts = streams.feed(detector(), streams.phases(20_000, 3, seed=2))
    assert len(verdicts) > 180
    assert {v.verdict for v in verdicts} == {"ok"}
    assert all(v.calibrated for v in verdicts)


@pytest.mark.parametrize("pods", [2, 3, 5])
@pytest.mark.parametrize("batch", [1, 8, 32])
def test_pods_that_see_interleaved_batches_of_one_stream_stay_quiet_too(pods, batch):
    rows = streams.phases(6000 * pods, 3, seed=3)
    batches = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    for pod in range(pods):
        verdicts = streams.feed(detector(), np.concatenate(batches[pod::pods]), batch=batch)
        assert len(verdicts) > 40
        assert {v.verdict for v in verdicts} == {"ok"}


@pytest.mark.parametrize("change", ["level", "spread", "one feature"])
def test_a_change_is_confirmed_after_three_windows_that_agree(change):
    rows = streams.phases(5000, 3, seed=4)
    rows = {"level": rows + 4, "spread": rows * 5, "one feature": rows + np.array([0, 5, 0])}[change]
    verdicts = streams.feed(detector(), rows)
    assert [v.verdict for v in verdicts[:2]] == ["inconclusive", "inconclusive"]
    assert {v.verdict for v in verdicts[2:]} == {"drift"}
    assert min(v.confidence for v in verdicts[2:]) >= 0.6
    if change == "one feature":
        assert verdicts[-1].features[0].feature in {"mem", "score"}


def test_the_breach_begins_with_the_oldest_row_of_the_first_drifting_window():
    watching = detector()
    calm, moved = streams.phases(3000, 3, seed=5), streams.phases(3000, 3, seed=6) + 4
    streams.feed(watching, calm)
    scores = streams.score_of(moved)
    first = None
    for at in range(0, len(moved), 8):
        watching.add(moved[at : at + 8], scores[at : at + 8], 10_000.0 + at)
        if watching.due():
            found = watching.check(10_000.0 + at)
            if found.verdict == "drift":
                first = first or found
                newest = found
    assert first.breachStart == newest.breachStart
    assert first.breachStart < newest.windowStart
    assert first.breachStart < first.windowStart


def test_a_verdict_of_health_takes_one_full_window_a_verdict_of_drift_three():
    assert [v.verdict for v in streams.feed(detector(), streams.phases(WINDOW, 3, seed=7))] == ["ok"]
    rows = streams.phases(WINDOW, 3, seed=7) + 4
    assert [(v.verdict, v.confidence) for v in streams.feed(detector(), rows)] == [("inconclusive", None)]


def test_before_the_window_is_full_nothing_is_said():
    watching = detector()
    streams.feed(watching, streams.phases(WINDOW - 8, 3, seed=8))
    found = watching.check(0.0)
    assert (found.verdict, found.confidence, found.checks, found.windowStart) == ("inconclusive", None, 0, None)


def test_a_check_is_due_when_half_the_window_is_new_however_rows_arrive():
    for batch in (1, 7, 8, 50):
        verdicts = streams.feed(detector(), streams.phases(4000, 3, seed=9), batch=batch)
        assert len(verdicts) == pytest.approx(4000 / (WINDOW / 2), abs=4)


def test_the_window_holds_the_newest_rows_in_any_batches():
    watching, rows = detector(), streams.phases(1013, 3, seed=10)
    scores = streams.score_of(rows)
    at = 0
    for size in (1, 150, 49, 13, 300, 500):
        watching.add(rows[at : at + size], scores[at : at + size], float(at))
        at += size
    expected = np.column_stack((rows, scores))[-WINDOW:]
    held = np.roll(watching._rows, -watching._next, axis=0)
    assert np.array_equal(held, expected)


def test_a_reset_forgets_rows_and_checks():
    watching = detector()
    streams.feed(watching, streams.phases(2000, 3, seed=11) + 4)
    watching.reset()
    assert (watching.check(0.0).verdict, watching.check(0.0).checks, watching.due()) == ("inconclusive", 0, False)
    assert watching.details()["features"] == []


def test_a_feature_that_is_suddenly_missing_is_drift():
    rows = streams.phases(3000, 3, seed=12)
    rows[:, 1] = np.nan
    verdicts = streams.feed(detector(), rows, score=lambda r: streams.score_of(np.nan_to_num(r)))
    assert verdicts[-1].verdict == "drift"
    assert verdicts[-1].confidence == 1.0
    worst = verdicts[-1].features[0]
    assert (worst.feature, worst.votes, worst.ks) == ("mem", 5, None)


def test_some_missing_values_are_no_drift():
    rows = streams.phases(3000, 3, seed=13)
    rows[::5, 1] = np.nan
    verdicts = streams.feed(detector(), rows, score=lambda r: streams.score_of(np.nan_to_num(r)))
    assert "drift" not in {v.verdict for v in verdicts}


def test_a_feature_that_was_never_there_is_watched_for_its_coming():
    training = TRAINING.copy()
    training[:, 2] = np.nan
    scores = streams.score_of(np.nan_to_num(training))
    calibration = calibrate(training, scores, window=WINDOW, features=NAMES)
    watching = DriftDetector(
        NAMES, CONFIG, reference=training[SAMPLE], reference_scores=scores[SAMPLE], calibration=calibration
    )
    absent = streams.phases(2000, 3, seed=14)
    absent[:, 2] = np.nan
    assert streams.feed(watching, absent, score=lambda r: streams.score_of(np.nan_to_num(r)))[-1].verdict == "ok"
    present = streams.phases(2000, 3, seed=14)
    assert streams.feed(watching, present)[-1].verdict == "drift"


def test_a_constant_feature_is_quiet_until_it_moves_and_one_odd_row_is_no_move():
    training = TRAINING.copy()
    training[:, 2] = 7.0
    calibration = calibrate(training, SCORES, window=WINDOW, features=NAMES)
    watching = DriftDetector(
        NAMES, CONFIG, reference=training[SAMPLE], reference_scores=SCORES[SAMPLE], calibration=calibration
    )
    rows = streams.phases(3000, 3, seed=15)
    score = lambda r: streams.score_of(np.column_stack((r[:, :2], r[:, 0])))  # noqa: E731 - the constant is not scored
    rows[:, 2] = 7.0
    rows[500::600, 2] = 8.0
    quiet = streams.feed(watching, rows, score=score)
    assert not {f.votes for v in quiet for f in v.features if f.feature == "net"} & {3, 4, 5}
    rows[:, 2] = 8.0
    moved = streams.feed(watching, rows, score=score)
    assert moved[-1].verdict == "drift"
    assert (moved[-1].features[0].feature, moved[-1].features[0].votes) == ("net", 5)


def test_integers_of_the_same_kind_are_no_drift_and_others_are():
    random = np.random.default_rng(16)
    draw = lambda rate, count: random.poisson(rate, size=(count, 3)).astype(float)  # noqa: E731
    training = draw(2, 12_000)
    scores = streams.score_of(training)
    calibration = calibrate(training, scores, window=WINDOW, features=NAMES)
    watching = DriftDetector(
        NAMES, CONFIG, reference=training[SAMPLE], reference_scores=scores[SAMPLE], calibration=calibration
    )
    assert "drift" not in {v.verdict for v in streams.feed(watching, draw(2, 10_000))}
    assert streams.feed(watching, draw(4, 2000))[-1].verdict == "drift"


def test_without_a_reference_the_first_rows_become_one():
    watching = detector(reference=None, calibration=None)
    rows = np.random.default_rng(17).normal(size=(8000, 3))
    assert streams.feed(watching, rows[: 4 * WINDOW - 8]) == []
    assert watching.details()["reference"] == "learning"
    verdicts = streams.feed(watching, rows[4 * WINDOW - 8 :])
    assert {v.verdict for v in verdicts} == {"ok"}
    assert not any(v.calibrated for v in verdicts)
    assert streams.feed(watching, rows[:2000] + 2)[-1].verdict == "drift"
    watching.reset()
    assert watching.details()["reference"] == "learned"


def test_another_window_than_the_calibrations_counts_as_uncalibrated():
    watching = detector(DriftConfig(window=100))
    assert not watching.calibrated
    assert not streams.feed(watching, streams.phases(500, 3, seed=18))[-1].calibrated


def test_the_configured_rate_of_false_alarms_moves_the_thresholds():
    anderson = [
        detector(DriftConfig(window=WINDOW, false_alarms_per_day=rate))._thresholds[0]["anderson"]
        for rate in (500.0, 0.0001)
    ]
    assert anderson[0] < anderson[1]


def test_a_calibration_without_tails_keeps_its_stored_thresholds():
    stored = {k: v for k, v in CALIBRATION.items() if k != "tails"}
    assert detector(calibration=stored)._thresholds == [CALIBRATION["thresholds"][n] for n in (*NAMES, "score")]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"tails": {"cpu": {"ks": [1, 2]}}}, "calibration.tails.cpu.ks: expected 4 numbers, got [1, 2]"),
        ({"thresholds": [1]}, "calibration.thresholds: expected an object, got [1]"),
        (
            {"thresholds": {"cpu": {"ks": "low"}}},
            "calibration.thresholds.cpu.ks: expected a number, 0 or more, got 'low'",
        ),
        ({"effectiveSampleFactor": {"cpu": 0}}, "effectiveSampleFactor.cpu: expected a number"),
        ({"window": True}, "calibration.window: expected a number, 1 or more, got True"),
    ],
)
def test_a_calibration_that_cannot_be_read_is_left_out_and_told(broken, said, caplog):
    watching = detector(calibration=CALIBRATION | broken)
    assert said in caplog.text
    assert not watching.calibrated
    assert watching._thresholds[0] == DEFAULT_THRESHOLDS


def test_details_show_raw_values_thresholds_and_votes_of_every_feature_as_json():
    watching = detector()
    streams.feed(watching, streams.phases(2000, 3, seed=19) + 4)
    details = json.loads(json.dumps(watching.details(), allow_nan=False))
    assert [f["feature"] for f in details["features"]] == [*NAMES, "score"]
    cpu = details["features"][0]
    for test, one in cpu["tests"].items():
        assert one["default"] == DEFAULT_THRESHOLDS[test]
        assert one["vote"] == (one["value"] < one["threshold"] if test == "ks" else one["value"] > one["threshold"])
    assert (details["verdict"], details["reference"], details["rows"]) == ("drift", "bundle", WINDOW)


def test_what_is_reported_of_a_drifting_feature_names_its_thresholds():
    watching = detector()
    reported = streams.feed(watching, streams.phases(2000, 3, seed=19) + 4)[-1].features
    in_force = {f["feature"]: f["tests"] for f in watching.details()["features"]}
    for feature in reported:
        if feature.votes < watching.config.min_votes:
            assert feature.thresholds is None
            continue
        expected = {test: pytest.approx(one["threshold"], rel=1e-4) for test, one in in_force[feature.feature].items()}
        assert feature.thresholds == expected
    assert reported[0].thresholds is not None


def test_sureness_without_an_effect_counts_two_votes_at_most():
    sure = {"ks": 0.0, "wasserstein": 0.1, "anderson": 99.0, "jensenShannon": 0.1, "welch": 99.0}
    assert votes_of(sure, DEFAULT_THRESHOLDS) == (2, ("ks", "anderson", "welch"))
    assert votes_of(sure | {"wasserstein": 0.4}, DEFAULT_THRESHOLDS)[0] == 4


def test_votes_are_confirmed_by_one_feature_over_all_checks_not_by_several_in_turn():
    assert confirmed(np.array([[5, 5, 4], [0, 5, 5]]), 3) == 4
    assert confirmed(np.array([[5, 0, 5], [0, 5, 0]]), 3) == 0
    assert confirmed(np.array([[5, 5]]), 3) == 0
