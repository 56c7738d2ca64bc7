from dataclasses import replace

import numpy as np
import pytest

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.table import Table, fingerprint, quantiles, split


def times(*seconds):
    return np.array(seconds, dtype="datetime64[s]").astype("datetime64[us]")


TABLE = Table(
    source="t",
    features=("a", "b"),
    rows=np.arange(20.0).reshape(10, 2),
    times=times(*range(10)),
    labels=np.arange(10) == 9,
)


def test_the_newest_share_is_held_out():
    training, holdout = split(TABLE, holdout=0.2)
    assert (len(training), len(holdout)) == (8, 2)
    assert training.times.max() < holdout.times.min()
    assert holdout.labels.tolist() == [False, True]


@pytest.mark.parametrize("holdout", [0.01, 0.99])
def test_a_holdout_that_leaves_one_side_empty_is_refused(holdout):
    with pytest.raises(DataError, match="10 rows cannot be cut into training rows and a hold-out of"):
        split(TABLE, holdout=holdout)


def test_the_fingerprint_says_how_many_rows_of_what_time():
    assert fingerprint(TABLE) | {"sha256": ""} == {
        "sha256": "",
        "rows": 10,
        "from": "1970-01-01T00:00:00.000000Z",
        "to": "1970-01-01T00:00:09.000000Z",
    }


@pytest.mark.parametrize(
    "other",
    [
        replace(TABLE, rows=TABLE.rows + 1e-12),
        replace(TABLE, features=("a", "c")),
        replace(TABLE, labels=None),
        TABLE.take(slice(None, 9)),
        TABLE.take(np.arange(10)[::-1]),
    ],
    ids=["a number", "a name", "no labels", "a row less", "the order"],
)
def test_the_fingerprint_changes_with_whatever_a_model_learns_from(other):
    assert fingerprint(other)["sha256"] != fingerprint(TABLE)["sha256"]


def test_the_fingerprint_does_not_depend_on_layout_or_source():
    same = replace(TABLE, source="elsewhere", rows=np.asfortranarray(TABLE.rows))
    assert fingerprint(same) == fingerprint(TABLE)


def test_rows_are_sorted_by_time_and_ties_keep_their_order():
    mixed = replace(TABLE.take(slice(None, 4)), times=times(3, 1, 1, 0))
    assert mixed.in_order().rows[:, 0].tolist() == [6, 2, 4, 0]


def test_few_values_are_their_own_quantiles():
    assert quantiles(np.array([3.0, 1.0, 2.0]), most=5).tolist() == [1, 2, 3]


def test_many_values_become_evenly_spaced_quantiles():
    found = quantiles(np.random.default_rng(0).permutation(np.arange(100_001.0)), most=101)
    assert found.tolist() == pytest.approx(np.arange(0, 100_001, 1000))
