import json

import numpy as np
import pytest

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.event import EVENT, EVENT_ID, read_event

BODY = {"id": "e1", "breachStart": "2026-01-01T02:00:00+02:00", "features": {"cpu": {"ks": 0.001}}}


def test_an_event_is_read_from_json_and_from_a_file(tmp_path):
    path = tmp_path / "event.json"
    path.write_text(json.dumps(BODY))
    for given in (json.dumps(BODY), str(path)):
        event = read_event(given)
        assert (event.id, event.breach_start) == ("e1", np.datetime64("2026-01-01T00:00:00", "us"))
        assert event.tags()[EVENT_ID] == "e1"
        assert json.loads(event.tags()[EVENT]) == BODY


def test_a_huge_event_still_fits_into_a_tag():
    event = read_event(json.dumps(BODY | {"more": "x" * 10_000}))
    assert len(event.tags()[EVENT]) <= 5000
    assert json.loads(event.tags()[EVENT])["breachStart"] == BODY["breachStart"]


def test_an_event_that_is_too_long_loses_its_least_drifted_features_first():
    features = [{"feature": f"f{i}", "votes": 5 - i, "more": "x" * 1500} for i in range(5)]
    event = read_event(json.dumps(BODY | {"features": features}))
    kept = json.loads(event.tags()[EVENT])
    assert [feature["feature"] for feature in kept["features"]] == ["f0", "f1", "f2"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "--event: not JSON"),
        ("{}", "--event: expected an object with an id"),
        ('{"id": ""}', "--event: id '': expected up to 200 letters"),
        ('{"id": "a\'b"}', "expected up to 200 letters, digits and"),
        ('{"id": 1}', "--event: expected an object with an id"),
        ('{"id": "e", "breachStart": "now"}', "breachStart: expected an RFC 3339 time, got 'now'"),
        ('{"id": "e", "breachStart": "2026-01-01T00:00:00"}', "breachStart: expected an RFC 3339 time"),
        ("nowhere.json", "--event nowhere.json: No such file"),
    ],
)
def test_what_is_no_event_is_refused(given, words):
    with pytest.raises(DataError, match=words):
        read_event(given)
