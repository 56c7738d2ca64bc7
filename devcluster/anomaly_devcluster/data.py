"""Tables and objects that are data: YAML files beside the code."""

from importlib import resources
from string import Template
from typing import Any

import yaml


def data(path: str, /, **values: object) -> Any:
    """Return what a YAML file says, such as `api/kinds`, with `$name` replaced by values."""
    text = resources.files(__package__).joinpath(f"{path}.yaml").read_text()
    text = Template(text).substitute(values) if values else text
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
