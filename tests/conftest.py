"""Fixtures that several folders of tests share; each plugin is one outside system."""

pytest_plugins = ["tests.plugins.mlflow_server"]
