import json
import logging

import pytest

from anomaly_operator.adapters.logs import JsonFormatter


@pytest.fixture
def format_line():
    def line(message, *arguments, **more):
        record = logging.LogRecord(
            "a.logger", logging.WARNING, "file", 1, message, arguments, more.pop("exc_info", None)
        )
        vars(record).update(more)
        return json.loads(JsonFormatter().format(record))

    return line


def test_a_line_is_one_json_object_with_what_was_given_beside_the_message(format_line):
    line = format_line("%s rolled back", "m", namespace="ns", decision={"outcome": "RolledBack"})
    assert line["message"] == "m rolled back"
    assert line["level"] == "warning"
    assert line["decision"] == {"outcome": "RolledBack"}
    assert line["namespace"] == "ns"


def test_credentials_within_urls_are_masked(format_line):
    line = format_line("cannot reach http://user:hidden@mlflow:5000/x", uri="https://hidden@other")
    assert "hidden" not in json.dumps(line)
    assert line["message"] == "cannot reach http://***@mlflow:5000/x"


def test_an_exception_is_told_with_its_trace(format_line):
    error = ValueError("of that kind")
    line = format_line("failed", exc_info=(ValueError, error, None))
    assert "of that kind" in line["exception"]


def test_what_json_cannot_hold_is_written_as_text(format_line):
    assert format_line("x", thing=object())["thing"].startswith("<object")
