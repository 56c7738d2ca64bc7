"""The history is a chain that shows what was changed, and survives the way through the API."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from anomaly_operator.domain import codec, history
from anomaly_operator.domain.records import Decision, Evidence, HistoryEntry, Placed, Status


def entry(number: int, value: float = 0.5) -> HistoryEntry:
    evidence = (Evidence(metric="errorRate", value=value, limit=0.01, samples=number),)
    return HistoryEntry(
        revision=f"r{number}", outcome="Promoted", reason="Promoted", evidence=evidence, ended_at=1000.0 + number
    )


def chain(length: int, limit: int) -> Status:
    status = Status()
    for number in range(length):
        status = history.add(status, entry(number), limit)
    return status


@given(length=st.integers(0, 12), limit=st.integers(1, 5))
def test_chain_holds_also_when_old_entries_are_dropped(length: int, limit: int) -> None:
    status = chain(length, limit)
    assert len(status.history) == min(length, limit)
    assert history.verify(status.history, status.history_anchor) is None


def test_changed_entry_is_found() -> None:
    status = chain(3, 10)
    forged = replace(status.history[1], reason="Nothing")
    problem = history.verify((status.history[0], forged, status.history[2]), status.history_anchor)
    assert problem is not None
    assert "does not match its hash" in problem


def test_removed_entry_is_found() -> None:
    status = chain(3, 10)
    assert history.verify((status.history[0], status.history[2]), status.history_anchor) is not None


@given(value=st.floats(0, 1e9) | st.integers(0, 10**9).map(float))
def test_hash_survives_the_api_which_writes_whole_floats_as_integers(value: float) -> None:
    status = history.add(Status(), entry(1, value), 10)
    value_written = json.loads(
        json.dumps(codec.to_json(status)), parse_float=lambda t: int(float(t)) if float(t).is_integer() else float(t)
    )
    read = codec.status_from_json(value_written)
    assert history.verify(read.history, read.history_anchor) is None


def decision(epoch: int, revision: str) -> Decision:
    place = Placed(color="blue", revision=revision)
    return Decision(revision=revision, to=place, outcome="Promoted", reason="Promoted", time=float(epoch), epoch=epoch)


def test_decision_is_recorded_once() -> None:
    once = history.complete(Status(), decision(7, "a"), 10)
    assert history.complete(once, decision(7, "a"), 10) == once
    assert once.active is not None
    assert once.active.revision == "a"


def test_pending_decisions_are_recorded_in_their_order() -> None:
    newest = replace(decision(9, "b"), pending=(decision(8, "a"),))
    status = history.complete(Status(decision_epoch=7), newest, 10)
    assert [e.revision for e in status.history] == ["b", "a"]
