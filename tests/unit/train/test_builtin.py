import pytest

from anomaly_detector.train.builtin import read_builtin
from anomaly_detector.train.errors import DataError
from anomaly_detector.train.features import FeatureNotes


def notes(*names):
    return FeatureNotes(names=names)


@pytest.mark.parametrize(
    ("name", "rows", "features", "anomalies"), [("breast-cancer", 569, 30, 212), ("shuttle", 49_097, 9, 3511)]
)
def test_data_that_packages_carry_are_labelled_tables(name, rows, features, anomalies):
    table = read_builtin(name, notes=notes())
    assert (table.rows.shape, len(table.features), int(table.labels.sum())) == ((rows, features), features, anomalies)


def test_features_are_chosen_and_ordered_by_name():
    table = read_builtin("breast-cancer", notes=notes("mean_texture", "mean_radius"))
    assert table.features == ("mean_texture", "mean_radius")
    assert table.rows[0].tolist() == [10.38, 17.99]


@pytest.mark.parametrize(
    ("name", "wanted", "words"),
    [
        ("iris", (), "builtin:iris: no such data set; there are breast"),
        ("breast-cancer", ("x",), "no column x; it has"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(name, wanted, words):
    with pytest.raises(DataError, match=words):
        read_builtin(name, notes=notes(*wanted))
