"""The four Services: users', one per color, preview."""

import json

from anomaly_operator.domain import codec, names
from anomaly_operator.domain.manifests.common import child
from anomaly_operator.domain.model import Observed
from anomaly_operator.domain.records import Color, Decision, Json
from anomaly_operator.domain.spec import ServiceSpec


def users_service(observed: Observed, spec: ServiceSpec, decision: Decision | None) -> Json:
    """Return the Service that users call, with the selector that the decision means and the decision itself."""
    color = decision.to.color if decision else names.NO_COLOR
    decided = {names.DECISION: json.dumps(codec.to_json(decision), separators=(",", ":"))} if decision else {}
    ours = {key: value for key, value in spec.annotations.items() if not key.startswith(f"{names.GROUP}/")}
    return child(
        observed,
        "v1",
        "Service",
        observed.name,
        annotations={**ours, **decided},
        spec={
            "type": spec.type,
            "selector": names.selector(observed.name, color),
            "ports": [{"name": "http", "port": spec.port, "targetPort": names.USER_PORT, "protocol": "TCP"}],
        },
    )


def color_service(observed: Observed, color: Color) -> Json:
    """Return the Service of a color, by which the other one's shadow copies and passed-on requests come."""
    return _shadow_service(observed, names.track(observed.name, color), color)


def preview_service(observed: Observed, color: Color | None) -> Json:
    """Return the Service that leads to the candidate, else the standby."""
    return _shadow_service(observed, names.preview(observed.name), color or names.NO_COLOR)


def _shadow_service(observed: Observed, name: str, color: str) -> Json:
    return child(
        observed,
        "v1",
        "Service",
        name,
        spec={
            "type": "ClusterIP",
            "selector": names.selector(observed.name, color),
            "ports": [
                {"name": "shadow", "port": names.SHADOW_PORT, "targetPort": names.SHADOW_PORT, "protocol": "TCP"}
            ],
        },
    )
