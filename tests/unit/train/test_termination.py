import json

import pytest

from anomaly_detector.train.__main__ import main
from anomaly_detector.train.termination import leave_message


def test_what_is_wrong_is_left_for_whoever_started_the_job(tmp_path, monkeypatch, capsys):
    log = tmp_path / "termination-log"
    monkeypatch.setenv("ANOMALY_TERMINATION_LOG", str(log))
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(tmp_path / "gone.csv"), "--tracking-uri", "http://127.0.0.1:1", "--model", "m"])
    assert ended.value.code == 2
    assert log.read_text() in capsys.readouterr().err.replace("\n", "")
    assert "gone.csv" in log.read_text()


def test_the_message_is_no_longer_than_a_runtime_keeps(tmp_path, monkeypatch):
    log = tmp_path / "termination-log"
    monkeypatch.setenv("ANOMALY_TERMINATION_LOG", str(log))
    leave_message("x" * 10_000)
    assert len(log.read_bytes()) == 4096


def test_a_message_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALY_TERMINATION_LOG", str(tmp_path / "no-folder" / "log"))
    leave_message(json.dumps({"version": "5"}))
    assert not list(tmp_path.iterdir())
