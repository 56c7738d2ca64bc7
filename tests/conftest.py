"""Fixtures that several folders of tests share; each plugin is one outside system."""

from hypothesis import settings

pytest_plugins = ["tests.plugins.devcluster", "tests.plugins.mlflow_server", "tests.plugins.installed_chart"]

# No test is judged by the clock, and the same examples are tried each time: what fails is due to a change.
settings.register_profile("conditions", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)  # others each time: `make search`
settings.load_profile("conditions")
