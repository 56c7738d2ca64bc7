"""Check AnomalyModel manifests without a cluster: the same types that the CRD is generated from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from anomaly_operator.cli.errors import CliError
from anomaly_operator.crdgen import crd
from anomaly_operator.domain import names
from anomaly_operator.domain.fields import SpecError
from anomaly_operator.domain.records import Json
from anomaly_operator.domain.spec import Spec


def lint(path: Path) -> tuple[int, list[str]]:
    """Return how many AnomalyModels a YAML file holds, and what is wrong with them, one line each."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise CliError(f"{path}: {error}") from None
    models = [d for d in documents if isinstance(d, dict) and d.get("kind") == names.KIND]
    return len(models), [f"{path}: {problem}" for model in models for problem in _problems(model)]


def _problems(model: Json) -> Iterator[str]:
    name = (model.get("metadata") or {}).get("name", "(no name)")
    if model.get("apiVersion") != names.API_VERSION:
        yield f"{name}: apiVersion: expected {names.API_VERSION}, got {model.get('apiVersion')!r}"
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec = model.get("spec")
    yield from (f"{name}: {path}: unknown field" for path in _unknown(spec, schema, "spec"))
    try:
        Spec.parse(spec or {})
    except SpecError as error:
        yield f"{name}: {error}"


def _unknown(value: Any, schema: Json, path: str) -> Iterator[str]:
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _unknown(item, schema["items"], f"{path}[{index}]")
    if not isinstance(value, dict) or "properties" not in schema or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    for key, below in value.items():
        if key not in schema["properties"]:
            yield f"{path}.{key}"
        else:
            yield from _unknown(below, schema["properties"][key], f"{path}.{key}")
