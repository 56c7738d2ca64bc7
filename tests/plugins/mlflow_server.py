"""A real MLflow server for all tests of a session, and a fresh registered model's name for each test."""

import itertools

import pytest
from demo.mlflow_server import mlflow_server as run_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """Run one server for the session; `uri` is where it is, `folder` holds its database and artifacts."""
    with run_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def model_name():
    """Return a registered model's name that no other test of the session uses."""
    return f"model-{next(_numbers)}"
