"""What the operator makes of a model: right by the contract, and stable."""

import dataclasses
from typing import Any

import pytest
from tests.unit.domain.worlds import guarded

from anomaly_detector.config import SourceConfig, parse_config
from anomaly_operator.domain import names, revisions
from anomaly_operator.domain.manifests import config, pods, services, workloads
from anomaly_operator.domain.model import Desired, Observed, PodSettings, Resolved, Revision
from anomaly_operator.domain.spec import Spec

SPEC: dict[str, Any] = {"model": {"name": "production", "alias": "champion"}}
SETTINGS = PodSettings(detector_image="registry/detector:1", tracking_uri="http://mlflow")
RESOLVED = Resolved(
    reference="alias champion", model="production", version="3", run_id="r", source="models:/m-3", digest="sha256:a"
)
OBSERVED = Observed(name="cpu-watch", namespace="ops", uid="u", generation=1)


def wanted(spec: dict[str, Any] = SPEC, settings: PodSettings = SETTINGS, **resolved: Any) -> Revision:
    desired = Desired(spec=Spec.parse(spec), resolution=dataclasses.replace(RESOLVED, **resolved), settings=settings)
    found = revisions.wanted(OBSERVED, desired)
    assert isinstance(found, Revision), found
    return found


def deployment(spec: dict[str, Any] = SPEC, color: Any = "blue") -> dict[str, Any]:
    return workloads.deployment(OBSERVED, Spec.parse(spec), wanted(spec), color)


def with_detector(**detector: Any) -> dict[str, Any]:
    return {**SPEC, "detector": detector}


def test_pod_passes_the_restricted_pod_security_standard() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {next(k for k in v if k != "name") for v in pod["volumes"]} <= {"emptyDir", "configMap", "secret"}


def test_no_manifest_says_replicas() -> None:
    assert "replicas" not in deployment()["spec"]


def test_selector_names_model_and_color_and_never_a_version() -> None:
    made = deployment()
    assert made["spec"]["selector"]["matchLabels"] == {names.MODEL_LABEL: "cpu-watch", names.COLOR_LABEL: "blue"}
    assert made["spec"]["template"]["metadata"]["labels"][names.VERSION_LABEL] == "3"


def test_colors_differ_in_nothing_but_the_color() -> None:
    blue, green = deployment(color="blue"), deployment(color="green")
    assert str(blue["spec"]).replace("blue", "green") == str(green["spec"])


def test_environment_is_as_the_contract_says() -> None:
    fetch = deployment()["spec"]["template"]["spec"]["initContainers"][0]
    env = {entry["name"]: entry.get("value") for entry in fetch["env"]}
    assert env["ANOMALY_VERSION"] == "3"
    assert env["ANOMALY_DIGEST"] == "sha256:a"
    assert env["ANOMALY_COLOR"] == "blue"
    assert env["ANOMALY_REVISION"] == wanted().name
    assert env["MLFLOW_TRACKING_URI"] == "http://mlflow"
    assert {"ANOMALY_POD_NAME", "ANOMALY_POD_UID", "ANOMALY_POD_IP", "ANOMALY_NAMESPACE"} <= set(env)


def test_only_the_init_container_sees_the_registry_and_its_credentials() -> None:
    spec = {"model": {**SPEC["model"], "credentialsSecretRef": {"name": "mlflow"}}}
    pod = deployment(spec)["spec"]["template"]["spec"]
    fetch, serve = pod["initContainers"][0], pod["containers"][0]
    assert "credentials" in {mount["name"] for mount in fetch["volumeMounts"]}
    assert "credentials" not in {mount["name"] for mount in serve["volumeMounts"]}
    assert "MLFLOW_TRACKING_URI" not in {entry["name"] for entry in serve["env"]}


def test_upgrade_of_the_operator_changes_no_running_pod() -> None:
    world = guarded()
    before = [world.children[("Deployment", f"cpu-watch-{color}")] for color in ("blue", "green")]
    upgraded = PodSettings(detector_image="detector:2", tracking_uri="http://elsewhere", heartbeat_seconds=1.0)
    world.settings = upgraded
    world.restart()
    world.run(30)
    assert world.serving_version() == "2"
    assert [world.children[("Deployment", f"cpu-watch-{color}")] for color in ("blue", "green")] == before
    assert len(world.outcomes()) == 2


@pytest.mark.parametrize(
    "spec",
    [
        with_detector(image="other"),
        with_detector(env=[{"name": "A", "value": "1"}]),
        with_detector(resources={"limits": {"memory": "2Gi"}}),
        {"model": {**SPEC["model"], "allowPickle": True}},
    ],
)
def test_what_changes_pods_makes_a_new_revision(spec: dict[str, Any]) -> None:
    assert wanted(spec).name != wanted().name


@pytest.mark.parametrize(
    "spec",
    [
        with_detector(replicas=9),
        {**SPEC, "service": {"port": 8080}},
        {**SPEC, "gates": {"errorRate": {"max": 0.5}}},
        {**SPEC, "drift": {"window": 900}},
        {**SPEC, "paused": True},
        {**SPEC, "source": {"influxdb": {"url": "http://i", "org": "o", "bucket": "b", "measurement": "m"}}},
        {"model": {**SPEC["model"], "pollInterval": "1s"}},
    ],
)
def test_what_is_live_makes_no_new_revision(spec: dict[str, Any]) -> None:
    assert wanted(spec).name == wanted().name


def test_other_version_digest_or_run_makes_a_new_revision() -> None:
    found = {wanted().name, wanted(version="4").name, wanted(digest="sha256:b").name, wanted(run_id="q").name}
    assert len(found) == 4


def test_cloudpickle_is_refused_unless_allowed() -> None:
    refused = revisions.wanted(
        OBSERVED,
        Desired(
            spec=Spec.parse(SPEC),
            resolution=dataclasses.replace(RESOLVED, artifact_format="cloudpickle"),
            settings=SETTINGS,
        ),
    )
    assert isinstance(refused, revisions.Obstacle)
    assert "spec.model.allowPickle" in refused.message


def test_config_map_holds_the_guards_limits() -> None:
    made = config.config_map(OBSERVED, Spec.parse({**SPEC, "gates": {"errorRate": {"max": 0.2}}}), SETTINGS)
    assert '"max": 0.2' in made["data"]["config.json"]
    assert made["data"]["jwks.json"] == SETTINGS.jwks


SOURCE: dict[str, Any] = {
    "url": "http://influxdb:8086/",
    "org": "platform",
    "bucket": "telegraf",
    "measurement": "system",
    "fields": {"cpu": "usage"},
    "interval": "2s",
    "tokenSecretRef": {"name": "influxdb-token", "key": "t"},
}


def test_pods_read_where_points_to_score_come_from_as_the_operator_writes_it() -> None:
    made = config.config_map(OBSERVED, Spec.parse({**SPEC, "source": {"influxdb": SOURCE}}), SETTINGS)
    assert parse_config(made["data"]["config.json"]).source == SourceConfig(
        url="http://influxdb:8086",
        org="platform",
        bucket="telegraf",
        token_file=f"{pods.SOURCE_INFLUXDB_DIR}/token",
        measurement="system",
        query=None,
        fields={"cpu": "usage"},
        result_measurement="anomaly_result",
        interval=2.0,
        lateness=30.0,
        owner_uid="u",
    )


def test_only_the_serving_container_sees_the_tokens_of_influxdb_each_as_a_file_of_its_own() -> None:
    written = {"url": "http://i", "org": "o", "bucket": "b", "tokenSecretRef": {"name": "writer"}}
    made = deployment({**SPEC, "influxdb": written, "source": {"influxdb": SOURCE}})["spec"]["template"]["spec"]
    secrets = {v["name"]: v["secret"] for v in made["volumes"] if "secret" in v}
    (fetch,), (serve,) = made["initContainers"], made["containers"]
    mounted = [mount for mount in serve["volumeMounts"] if mount["name"] in secrets]
    folders = {mount["mountPath"]: secrets[mount["name"]] for mount in mounted}
    assert {folder: (secret["secretName"], secret["items"]) for folder, secret in folders.items()} == {
        pods.INFLUXDB_DIR: ("writer", [{"key": "token", "path": "token"}]),
        pods.SOURCE_INFLUXDB_DIR: ("influxdb-token", [{"key": "t", "path": "token"}]),
    }
    named = {e["name"]: e.get("value") for e in serve["env"]}
    assert named["ANOMALY_INFLUXDB_DIR"] == pods.INFLUXDB_DIR
    assert named["ANOMALY_SOURCE_INFLUXDB_DIR"] == pods.SOURCE_INFLUXDB_DIR
    assert not {mount["name"] for mount in fetch["volumeMounts"]} & secrets.keys()


def test_users_get_port_8080_and_shadows_8082() -> None:
    spec = Spec.parse(SPEC)
    assert services.users_service(OBSERVED, spec.service, None)["spec"]["ports"][0]["targetPort"] == 8080
    assert services.color_service(OBSERVED, "blue")["spec"]["ports"][0]["targetPort"] == 8082


def test_template_stored_is_the_template_served() -> None:
    revision = wanted()
    made = pods.on_color("cpu-watch", revision, "blue")
    again = pods.on_color("cpu-watch", dataclasses.replace(revision), "blue")
    assert made == again
    assert revision.template == wanted().template, "building a Deployment changes no record"
