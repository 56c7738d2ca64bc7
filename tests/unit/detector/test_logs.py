"""Every line on standard error is one JSON object, whoever says it, and none holds a login."""

import json
import logging
import os
import subprocess
import sys

import pytest

from anomaly_detector.logs import JsonFormatter

NOISY = """
import asyncio, sys, threading, warnings
import numpy as np
from anomaly_detector import logs

class Dying:
    def __del__(self):
        raise LookupError("in a finalizer")

async def main():
    asyncio.get_running_loop().call_soon(int, "in a callback")
    await asyncio.sleep(0)

logs.configure("info")
warnings.warn("of Python")
np.float64(1) / np.float64(0)
thread = threading.Thread(target=int, args=("in a thread",))
thread.start()
thread.join()
quitting = threading.Thread(target=sys.exit)
quitting.start()
quitting.join()
Dying()
asyncio.run(main())
raise ConnectionError("at the end: http://alice:hunter2@mlflow:5000/x")
"""


def run(*arguments, **environment):
    """Return the exit status of a Python, and the lines that it wrote on standard error, parsed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


def test_warnings_and_what_nobody_caught_are_json_lines_like_all_else():
    status, lines = run("-c", NOISY)
    said = [f"{line['message']} {line.get('exception', '')}" for line in lines]
    expected = [
        ("warning", "UserWarning: of Python"),
        ("warning", "RuntimeWarning: divide by zero"),
        ("critical", "in a thread"),
        ("critical", "LookupError: in a finalizer"),
        ("error", "in a callback"),
        ("critical", "ConnectionError: at the end: http://***@mlflow:5000/x"),
    ]
    assert status == 1
    assert [line["level"] for line in lines] == [level for level, _ in expected]
    for words, (_, wanted) in zip(said, expected, strict=True):
        assert wanted in words
    assert "hunter2" not in json.dumps(lines)


@pytest.mark.parametrize("command", ["serve", "fetch"])
def test_wrong_settings_are_one_line_and_the_last_words_of_the_container(command, tmp_path):
    status, lines = run(
        "-m", "anomaly_detector", command, ANOMALY_COLOR="red", ANOMALY_TERMINATION_LOG=str(tmp_path / "said")
    )
    assert (status, len(lines), lines[0]["level"]) == (64, 1, "error")
    assert "ANOMALY_MODEL: missing" in lines[0]["message"]
    assert (tmp_path / "said").read_text() == lines[0]["message"]


@pytest.fixture
def line():
    def write(message, *arguments, **more):
        record = logging.LogRecord("a.logger", logging.WARNING, "f", 1, message, arguments, more.pop("exc_info", None))
        vars(record).update(more)
        text = JsonFormatter().format(record)
        assert "\n" not in text
        return json.loads(text)

    return write


def test_a_line_says_when_how_bad_where_what_and_what_was_given_beside_it(line):
    said = line("%d rows\nlost", 3, revision="r1", thing=object())
    assert (said["level"], said["logger"], said["message"], said["revision"]) == (
        "warning",
        "a.logger",
        "3 rows\nlost",
        "r1",
    )
    assert said["time"].endswith("+00:00")
    assert said["thing"].startswith("<object")


def test_logins_in_addresses_are_masked_wherever_they_stand(line):
    error = OSError("https://bob:hunter2@store/x?y=1")
    said = line("http://hunter2@mlflow:5000", exc_info=(OSError, error, None), uri="http://a:hunter2@i:8086")
    assert "hunter2" not in json.dumps(said)
    assert (said["message"], said["uri"]) == ("http://***@mlflow:5000", "http://***@i:8086")
    assert "https://***@store/x?y=1" in said["exception"]
