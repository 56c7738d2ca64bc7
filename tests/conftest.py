"""Fixtures that several folders of tests share; each plugin is one outside system."""

from hypothesis import settings

pytest_plugins = ["tests.plugins.devcluster", "tests.plugins.mlflow_server", "tests.plugins.installed_chart"]

settings.register_profile("conditions", deadline=None)  # no test is judged by the clock
settings.load_profile("conditions")
