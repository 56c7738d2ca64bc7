import gzip

import numpy as np
import pandas as pd
import pytest

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.features import FeatureNotes, read_notes
from anomaly_detector.train.files import read_file

ROWS = 60
LINES = [f"2026-01-01T00:00:{i:02d}Z,{i}.5,{i * 2},{int(i > 50)}" for i in range(ROWS)]
HEADER = "time,cpu,memory,label"


def csv(tmp_path, *, header=HEADER, lines=LINES):
    path = tmp_path / "data.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def with_line(number, text):
    """Put a line at its number as an editor counts them, from 1, the header included."""
    lines = list(LINES)
    lines[number - 2] = text
    return lines


def test_time_and_label_are_found_by_their_names_and_the_rest_are_features(tmp_path):
    table = read_file(csv(tmp_path), notes=FeatureNotes())
    assert table.features == ("cpu", "memory")
    assert table.rows[3].tolist() == [3.5, 6]
    assert table.labels.sum() == 9
    assert table.time_range() == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:59.000000Z")


def test_parquet_compressed_and_plain_csv_give_the_same_table(tmp_path):
    plain = csv(tmp_path)
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    pd.read_csv(plain).to_parquet(tmp_path / "data.parquet")
    expected = read_file(plain, notes=FeatureNotes())
    for name in ("data.csv.gz", "data.parquet"):
        table = read_file(tmp_path / name, notes=FeatureNotes())
        np.testing.assert_array_equal(table.rows, expected.rows)
        np.testing.assert_array_equal(table.times, expected.times)


def test_rows_come_out_in_the_order_of_time(tmp_path):
    table = read_file(csv(tmp_path, lines=LINES[::-1]), notes=FeatureNotes())
    assert table.rows[:, 0].tolist() == [i + 0.5 for i in range(ROWS)]


def test_the_notes_choose_columns_and_their_order(tmp_path):
    table = read_file(csv(tmp_path), notes=FeatureNotes(names=("memory", "cpu")))
    assert table.rows[3].tolist() == [6, 3.5]


@pytest.mark.parametrize(
    ("spelling", "anomalous"),
    [(("0", "1"), 9), (("false", "true"), 9), (("False", "True"), 9), (("1", "-1"), 9), (("0.0", "1.0"), 9)],
)
def test_labels_are_read_as_people_write_them(tmp_path, spelling, anomalous):
    lines = [line[:-1] + spelling[int(line[-1])] for line in LINES]
    assert read_file(csv(tmp_path, lines=lines), notes=FeatureNotes()).labels.sum() == anomalous


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (with_line(7, "2026-01-01T00:00:05Z,high,10,0"), r"row 7, column cpu: expected a number, got 'high'"),
        (with_line(9, "2026-01-01T00:00:07Z,,14,0"), r"row 9, column cpu: expected a finite number, got nothing"),
        (with_line(9, "2026-01-01T00:00:07Z,NaN,14,0"), r"row 9, column cpu: expected a finite number, got nothing"),
        (with_line(9, "2026-01-01T00:00:07Z,1,inf,0"), r"row 9, column memory: expected a finite number, got inf"),
        (with_line(3, "yesterday,1,2,0"), r"row 3, column time: expected an ISO 8601 time .* got 'yesterday'"),
        (with_line(3, "2026-01-01T00:00:01Z,1,2,maybe"), r"row 3, column label: expected a label .* got 'maybe'"),
        (with_line(5, ""), r"row 5, column cpu: expected a finite number, got nothing"),
        (with_line(5, "2026-01-01T00:00:03Z,1,2,0,5,6"), r"data.csv: cannot be read: .*line 5"),
        ([], r"data.csv: no rows; expected at least 50"),
        (LINES[:10], r"data.csv: 10 usable rows; expected at least 50"),
    ],
    ids=["text", "empty", "NaN", "infinite", "time", "label", "blank", "ragged", "header only", "too few"],
)
def test_bad_data_is_refused_naming_row_and_column(tmp_path, lines, words):
    with pytest.raises(DataError, match=words):
        read_file(csv(tmp_path, lines=lines), notes=FeatureNotes())


def test_rows_with_gaps_can_be_left_out(tmp_path):
    path = csv(tmp_path, lines=with_line(9, "2026-01-01T00:00:07Z,,14,0"))
    table = read_file(path, notes=FeatureNotes(), missing="drop")
    assert len(table) == len(table.times) == len(table.labels) == ROWS - 1


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    with pytest.raises(DataError, match=r"no column disk; it has time, cpu, memory, label"):
        read_file(csv(tmp_path), notes=FeatureNotes(names=("cpu", "disk")))


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x81"], ids=["empty", "no text"])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.csv: "):
        read_file(path, notes=FeatureNotes())


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "data.parquet").write_text("time,cpu")
    with pytest.raises(DataError, match=r"data\.parquet: cannot be read"):
        read_file(tmp_path / "data.parquet", notes=FeatureNotes())


def test_a_features_file_gives_names_units_and_descriptions(tmp_path):
    path = tmp_path / "features.yaml"
    path.write_text("label: bad\nfeatures:\n  cpu: {unit: '%', description: busy}\n  memory:\n")
    notes = read_notes(path)
    assert (notes.names, notes.label, notes.time) == (("cpu", "memory"), "bad", None)
    assert notes.of(("cpu", "memory")) == ({"cpu": "%"}, {"cpu": "busy"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("features: [cpu]", "features: expected a mapping"),
        ("features: {cpu: percent}", r"features\.cpu: expected \{unit, description\}, got 'percent'"),
        ("features: {cpu: {unti: s}}", r"features\.cpu: expected"),
        ("features: {cpu: }\ntimes: x", "unknown field times; known are features, time, label"),
        ("features: {1: }", "features: 1: expected a name in quotes"),
        ("features: {cpu: }\ntime: [1]", "time: expected the name of a column"),
        ("{", "not YAML"),
    ],
)
def test_a_wrong_features_file_is_refused_naming_the_field(tmp_path, text, words):
    path = tmp_path / "features.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_notes(path)
