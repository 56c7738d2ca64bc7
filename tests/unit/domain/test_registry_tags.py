"""What stands in the registry's tags, and what `--verify` makes of it."""

import json
from dataclasses import replace

import pytest

from anomaly_operator.domain import history, registry_tags
from anomaly_operator.domain.records import Evidence, HistoryEntry, Retraining, Status
from anomaly_operator.domain.registry_tags import Recorded, contradictions


def entry(version: str, at: float, words: int = 0) -> HistoryEntry:
    evidence = tuple(Evidence(metric="errorRate", value=0.5, limit=0.01, text="x" * words) for _ in range(20))
    return HistoryEntry(
        revision=f"r{version}", version=version, outcome="Promoted", reason="Promoted", message="y" * words,
        evidence=evidence if words else (), active=f"r{version}", active_version=version, ended_at=at,
    )  # fmt: skip


def remembered(*entries: HistoryEntry, limit: int = 10) -> tuple[Status, list[Recorded]]:
    """Return status after these decisions, and what the registry was told meanwhile."""
    status, recorded = Status(), []
    for one in entries:
        status = history.add(status, one, limit)
        tag = registry_tags.key("ns", "am", status.history[0])
        tags = {tag: registry_tags.value("ns", "am", "uid-1", status.history[0])}
        recorded += registry_tags.read(tags, "ns", "am")
    return status, recorded


@pytest.mark.parametrize("words", [10, 600, 6000])
def test_a_decision_fits_into_a_tag_with_its_hash_however_long_its_words_are(words: int) -> None:
    status, (recorded,) = remembered(entry("3", 1.0, words))
    text = registry_tags.value("ns", "am", "uid-1", status.history[0])
    assert len(text) <= 5000
    assert (json.loads(text)["hash"], json.loads(text)["uid"]) == (status.history[0].hash, "uid-1")
    assert recorded.shortened is (words > 10)
    assert contradictions(status, [recorded]) == []


def test_what_is_read_back_is_what_was_decided() -> None:
    status, recorded = remembered(entry("1", 1.0), entry("2", 2.0))
    assert [one.entry for one in recorded] == list(reversed(status.history))
    assert {one.uid for one in recorded} == {"uid-1"}


def test_tags_of_other_models_and_spoiled_ones_are_passed_over() -> None:
    one = registry_tags.value("ns", "am", "uid-1", entry("1", 1.0))
    tags = {
        "anomalymodel.dev/history.ns.other.0123": one,
        "anomalymodel.dev/history.ns.am.4567": "{",
        "anomalymodel.dev/digest": "sha256:ab",
    }
    assert registry_tags.read(tags, "ns", "am") == []


def test_older_decisions_than_status_holds_contradict_nothing_if_the_anchor_is_among_them() -> None:
    status, recorded = remembered(*(entry(str(i), float(i)) for i in range(1, 6)), limit=2)
    assert len(status.history) == 2
    assert contradictions(status, recorded) == []


def test_a_chain_that_was_rewritten_as_a_whole_is_found_out() -> None:
    _, recorded = remembered(entry("1", 1.0), entry("2", 2.0))
    forged, _ = remembered(entry("1", 1.0), entry("7", 2.0))
    assert history.verify(forged.history, forged.history_anchor) is None, "nothing is wrong with the chain itself"
    found = contradictions(forged, recorded)
    assert any("no tag about version 7" in words for words in found)
    assert any("status lacks version 2" in words for words in found)


def test_a_decision_that_was_taken_out_of_status_is_missed() -> None:
    status, recorded = remembered(entry("1", 1.0), entry("2", 2.0))
    shorter = replace(status, history=status.history[1:])
    assert history.verify(shorter.history, "") is None
    assert "status lacks version 2" in contradictions(shorter, recorded)[0]


def test_an_anchor_that_the_registry_never_saw_is_told() -> None:
    status, recorded = remembered(*(entry(str(i), float(i)) for i in range(1, 4)), limit=1)
    (words,) = contradictions(status, [one for one in recorded if one.entry.hash != status.history_anchor])
    assert "historyAnchor" in words


def test_a_tag_that_says_something_else_under_the_same_hash_is_told() -> None:
    status, (recorded,) = remembered(entry("1", 1.0))
    spoiled = replace(recorded, entry=replace(recorded.entry, reason="Another"))
    assert "says something else" in contradictions(status, [spoiled])[0]


def test_retrainings_fit_into_a_tag_newest_first() -> None:
    lines = [Retraining(job=f"j{i}", trigger="Drift", message="x" * 900, started_at=float(i)) for i in range(20)]
    text = registry_tags.retrainings_value(lines)
    told = json.loads(text)
    assert len(text) <= 5000
    assert [line["job"] for line in told] == [f"j{i}" for i in range(len(told))]
    assert len(told) > 5
