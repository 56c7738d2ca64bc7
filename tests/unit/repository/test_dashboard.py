"""The Grafana dashboard asks for metrics that are there."""

import json
import re
from pathlib import Path

import pytest

from anomaly_operator.adapters.metrics import Metrics

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "manifests" / "grafana" / "anomalymodels.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]


def families():
    """Return the names of all metrics, without the endings that the exposition adds."""
    operator = re.findall(r"^# TYPE (\S+)", Metrics().render().decode(), flags=re.MULTILINE)
    detector = re.findall(r'"(anomaly_[a-z_]+)"', (ROOT / "detector/anomaly_detector/metrics.py").read_text())
    return {re.sub(r"_total$", "", name) for name in (*operator, *detector)}


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_names_metrics_that_exist(query):
    asked = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in re.findall(r"\banomaly_[a-z_]+", query)}

    assert asked
    assert asked <= families()


def test_no_two_panels_lie_on_each_other():
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]

    assert len(set(places)) == len(places)
