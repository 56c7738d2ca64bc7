"""Data and the command, as a user has them."""

import json

import numpy as np
import pytest

from anomaly_detector.train.__main__ import main

ROWS = 1200
FEATURES = ("cpu", "memory", "network")


@pytest.fixture(scope="session")
def metrics_csv(tmp_path_factory):
    """Write a recording without labels: three gamma-distributed metrics, always above zero, one row a second."""
    path = tmp_path_factory.mktemp("data") / "metrics.csv"
    return write_csv(path, np.random.default_rng(0).gamma(3.0, size=(ROWS, 3)) + 0.1)


@pytest.fixture
def anomaly_train(mlflow_server, capsys, monkeypatch):
    """Run `anomaly-train` in this process against the session's server; gives exit code, JSON (or none), stderr."""
    # The command's own limit is for servers that are warm, and it stays in the environment of this process.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

    def run(*arguments, uri=mlflow_server.uri):
        capsys.readouterr()  # what was printed before is not the command's
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--tracking-uri", uri, "--no-plots", "--json"])
        printed = capsys.readouterr()
        return ended.value.code, json.loads(printed.out) if printed.out else None, printed.err

    return run


def write_csv(path, rows, *, labels=None, start=1_767_225_600):
    """Write rows a second apart from `start`, seconds since 1970."""
    lines = [f"{start + i}," + ",".join(f"{value:.6f}" for value in row) for i, row in enumerate(rows)]
    header = "time," + ",".join(FEATURES[: rows.shape[1]])
    if labels is not None:
        header, lines = header + ",label", [f"{line},{int(label)}" for line, label in zip(lines, labels, strict=True)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path
