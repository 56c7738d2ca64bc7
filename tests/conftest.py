"""Fixtures that several folders of tests share; each plugin is one outside system."""

pytest_plugins = ["tests.plugins.devcluster", "tests.plugins.mlflow_server", "tests.plugins.installed_chart"]
