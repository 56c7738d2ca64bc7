import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from anomaly_detector.train.__main__ import main
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.files import read_file
from anomaly_detector.train.sources import read_host


def test_a_recording_is_data_to_train_on(tmp_path):
    out = tmp_path / "metrics.csv"
    with pytest.raises(SystemExit) as ended:
        main(["record", "--rows", "60", "--hertz", "50", "--out", str(out)])
    assert ended.value.code == 0
    table = read_file(out, notes=FeatureNotes())
    assert table.features == ("cpu_percent", "memory_percent", "network_mbps")
    assert len(table) == 60
    assert ((table.rows[:, :2] >= 0) & (table.rows[:, :2] <= 100)).all()
    assert table.rows[:, 1].min() > 0


def test_live_rows_of_this_machine_are_data_too():
    heard = []
    table = read_host(rows=60, hertz=50, notes=FeatureNotes(), on_row=lambda: heard.append(1))
    assert len(table) == len(heard) == 60
    assert table.times is not None


def test_an_interrupted_recording_keeps_its_rows_and_ends_its_load(tmp_path):
    out = tmp_path / "metrics.csv"
    command = [sys.executable, "-m", "anomaly_detector.train", "record", "--rows", "100000", "--hertz", "20"]
    process = subprocess.Popen([*command, "--scenario", "steady", "--out", str(out)], start_new_session=True)
    try:
        while not out.exists() or len(out.read_text().splitlines()) < 5:
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"ended early: {process.wait(timeout=0.05)}")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
    header, *rows = out.read_text().splitlines()
    assert header == "time,cpu_percent,memory_percent,network_mbps"
    assert len(rows) >= 4
    # Ends when the test's time is up, if any process of the load lives on.
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            time.sleep(0.01)


@pytest.mark.parametrize("options", [("--rows", "0"), ("--hertz", "0"), ("--hertz", "500")])
def test_a_rate_that_cannot_be_kept_is_refused(options, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["record", "--out", str(tmp_path / "m.csv"), *options])
    assert ended.value.code == 2
    assert "--hertz: over 0 and at most 50" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["record", "--rows", "1", "--out", str(tmp_path / "none" / "m.csv")])
    assert ended.value.code == 2
    assert "m.csv: No such file or directory" in capsys.readouterr().err
