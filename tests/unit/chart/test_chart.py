"""The chart, rendered by Helm's own library: what it makes of its values, and which values it refuses."""

import base64
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from helm_python import Chart, HelmError, HelmValuesError, lint

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "anomaly-operator"


@pytest.fixture(scope="module")
def chart():
    with Chart.load(CHART) as loaded:
        yield loaded


def objects(chart, values=None, *, name="anomaly-operator"):
    files = chart.render(values or {}, name=name, namespace="anomaly-system")
    documents = [d for file, text in files.items() if file.endswith(".yaml") for d in yaml.safe_load_all(text) if d]
    return {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d for d in documents}


def deployment(rendered):
    return next(d for (kind, _, _), d in rendered.items() if kind == "Deployment")


def container(rendered):
    return deployment(rendered)["spec"]["template"]["spec"]["containers"][0]


def environment(rendered):
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(rendered)["env"]}


def rules(rendered, kind, name, namespace=None):
    return rendered[kind, namespace, name]["rules"]


def test_helm_lint_finds_no_error_even_in_strict_mode():
    report = lint(CHART, strict=True, kube_version="v1.30.0")

    assert report["errors"] == []


def test_the_crd_is_the_generated_one_plus_the_keep_policy(chart):
    crd = objects(chart)["CustomResourceDefinition", None, "anomalymodels.anomalymodel.dev"]
    generated = yaml.safe_load((ROOT / "crds" / "anomalymodels.anomalymodel.dev.yaml").read_text())

    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert crd == generated


def test_the_crd_can_be_left_to_others(chart):
    assert not [kind for kind, *_ in objects(chart, {"crds": {"install": False}}) if kind == "CustomResourceDefinition"]


def test_the_generated_admin_key_is_an_ed25519_private_key(chart):
    secret = objects(chart)["Secret", "anomaly-system", "anomaly-operator-admin-key"]

    key = load_pem_private_key(base64.b64decode(secret["data"]["private.pem"]), None)

    assert isinstance(key, Ed25519PrivateKey)


def test_with_an_existing_secret_no_key_is_generated(chart):
    rendered = objects(chart, {"adminKey": {"existingSecret": "mine"}})

    assert not [kind for kind, *_ in rendered if kind == "Secret"]
    volumes = {v["name"]: v for v in deployment(rendered)["spec"]["template"]["spec"]["volumes"]}
    assert volumes["admin-key"]["secret"]["secretName"] == "mine"


def test_the_operators_pod_meets_the_restricted_pod_security_standard(chart):
    pod = deployment(objects(chart))["spec"]["template"]["spec"]
    security = pod["containers"][0]["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert all(set(v) & {"secret", "emptyDir"} for v in pod["volumes"])


def test_every_setting_of_the_chart_is_one_that_the_operator_documents(chart):
    everything = {
        "watchNamespaces": ["a"],
        "registry": {
            "trackingUri": "http://mlflow:5000",
            "allowedTrackingUris": ["http://other:5000"],
            "credentialsSecret": "c",
        },
        "adminKey": {"previousSecret": "before"},
        "webhook": {"existingSecret": "hook"},
    }
    documented = (ROOT / "docs" / "operator-settings.md").read_text()

    names = environment(objects(chart, everything)).keys()

    assert [name for name in names if f"`{name}`" not in documented] == []


def test_the_default_registry_stays_allowed_beside_the_listed_ones(chart):
    values = {"registry": {"trackingUri": "http://mlflow:5000", "allowedTrackingUris": ["http://other:5000"]}}

    allowed = environment(objects(chart, values))["ANOMALY_OPERATOR_ALLOWED_TRACKING_URIS"]

    assert allowed == "http://mlflow:5000,http://other:5000"


def test_every_file_that_a_setting_names_is_mounted(chart):
    values = {
        "registry": {"credentialsSecret": "c"},
        "adminKey": {"previousSecret": "before"},
        "webhook": {"existingSecret": "hook"},
    }
    rendered = objects(chart, values)
    mounts = tuple(m["mountPath"] for m in container(rendered)["volumeMounts"])

    paths = [v for k, v in environment(rendered).items() if k.endswith(("_FILE", "_CREDENTIALS_DIR"))]

    assert len(paths) == 4
    assert [path for path in paths if not path.startswith(mounts)] == []


def test_a_digest_wins_over_the_tag(chart):
    digest = "sha256:" + "0" * 64
    rendered = objects(chart, {"image": {"repository": "somewhere/op", "tag": "1", "digest": digest}})

    assert container(rendered)["image"] == f"somewhere/op@{digest}"


def test_no_role_of_the_operator_touches_secrets_or_uses_wildcards(chart):
    for values in ({}, {"watchNamespaces": ["a"]}):
        roles = [d for (kind, _, _), d in objects(chart, values).items() if kind in {"Role", "ClusterRole"}]

        assert [r for role in roles for r in role["rules"] if {"secrets", "*"} & set(r["resources"])] == []
        assert [r for role in roles for r in role["rules"] if {"*", "escalate", "impersonate"} & set(r["verbs"])] == []


@pytest.mark.parametrize("watched", [[], ["a"]])
def test_retraining_from_pods_lets_the_operator_create_secrets_and_never_read_one(chart, watched):
    rendered = objects(chart, {"retraining": {"fromPods": True}, "watchNamespaces": watched})
    roles = [d for (kind, _, _), d in rendered.items() if kind in {"Role", "ClusterRole"}]

    assert [r["verbs"] for role in roles for r in role["rules"] if "secrets" in r["resources"]] == [["create"]]


def test_the_only_role_that_the_operator_can_give_away_is_the_detectors(chart):
    bind = [r for r in rules(objects(chart), "ClusterRole", "anomaly-system-anomaly-operator") if "bind" in r["verbs"]]

    assert [r["resourceNames"] for r in bind] == [["anomaly-detector"]]


def test_leases_are_allowed_to_the_operator_in_its_own_namespace_and_to_pods_that_share_a_stream(chart):
    having = [
        key
        for key, d in objects(chart).items()
        if key[0] in {"Role", "ClusterRole"} and any("leases" in r["resources"] for r in d["rules"])
    ]

    # Pods hold `anomaly-detector` by RoleBindings only; the admission policy leaves them their own model's Lease.
    assert sorted(having, key=str) == [
        ("ClusterRole", None, "anomaly-detector"),
        ("Role", "anomaly-system", "anomaly-operator-leader"),
    ]


def test_with_watched_namespaces_the_cluster_role_only_reads_cluster_scoped_things(chart):
    rendered = objects(chart, {"watchNamespaces": ["blue-team", "green-team"]})

    clusterwide = rules(rendered, "ClusterRole", "anomaly-system-anomaly-operator")
    resources = {r for rule in clusterwide for r in rule["resources"]}
    verbs = {v for rule in clusterwide for v in rule["verbs"]}

    assert resources == {
        "customresourcedefinitions",
        "namespaces",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    }
    assert verbs == {"get", "list", "watch"}
    for namespace in ("blue-team", "green-team"):
        assert ("Role", namespace, "anomaly-operator") in rendered
        assert ("RoleBinding", namespace, "anomaly-operator") in rendered
    assert environment(rendered)["ANOMALY_OPERATOR_WATCH_NAMESPACES"] == "blue-team,green-team"


def test_names_that_the_operator_relies_on_do_not_follow_the_release(chart):
    rendered = objects(chart, name="other")

    assert ("ClusterRole", None, "anomaly-detector") in rendered
    assert ("ValidatingAdmissionPolicy", None, "anomaly-detector") in rendered
    assert ("ValidatingAdmissionPolicyBinding", None, "anomaly-detector") in rendered
    assert ("Deployment", "anomaly-system", "other-anomaly-operator") in rendered


def test_a_second_release_can_leave_the_clusters_objects_alone(chart):
    rendered = objects(
        chart, {"clusterResources": {"create": False}, "crds": {"install": False}, "watchNamespaces": ["a"]}, name="two"
    )

    assert {name for kind, ns, name in rendered if ns is None} == {"anomaly-system-two-anomaly-operator"}


def test_the_disruption_budget_comes_with_the_second_replica(chart):
    assert "PodDisruptionBudget" in {kind for kind, *_ in objects(chart)}
    assert "PodDisruptionBudget" not in {kind for kind, *_ in objects(chart, {"replicas": 1})}


def test_optional_objects_appear_when_asked_for(chart):
    values = {
        "networkPolicy": {"enabled": True, "ingressFrom": [{"namespaceSelector": {}}]},
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    }
    rendered = objects(chart, values)

    policy = rendered["NetworkPolicy", "anomaly-system", "anomaly-operator"]
    monitor = rendered["ServiceMonitor", "anomaly-system", "anomaly-operator"]
    pods = rendered["PodMonitor", "anomaly-system", "anomaly-operator-detectors"]
    assert policy["spec"]["ingress"] == [
        {"ports": [{"port": 8080, "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]}
    ]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert pods["spec"]["namespaceSelector"] == {"any": True}
    assert not {"NetworkPolicy", "ServiceMonitor", "PodMonitor"} & {kind for kind, *_ in objects(chart)}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"replicas": "two"}, "/replicas"),
        ({"replicas": 9}, "/replicas"),
        ({"replica": 1}, "replica"),
        ({"image": {"repository": ""}}, "/image/repository"),
        ({"image": {"repository": "op", "digest": "sha256:short"}}, "/image/digest"),
        ({"logLevel": "loud"}, "/logLevel"),
        ({"registry": {"trackingUri": "mlflow:5000"}}, "/registry/trackingUri"),
        ({"registry": {"allowedTrackingUris": ["http://a,http://b"]}}, "/registry/allowedTrackingUris/0"),
        ({"registry": {"password": "hunter2"}}, "password"),
        ({"watchNamespaces": ["Not-A-Namespace"]}, "/watchNamespaces/0"),
        ({"detector": {"heartbeatSeconds": 0}}, "/detector/heartbeatSeconds"),
    ],
)
def test_bad_values_are_refused_by_the_name_of_the_field(chart, values, field):
    with pytest.raises(HelmValuesError) as refused:
        chart.validate_schema(values)

    assert field in str(refused.value)


def test_a_foreign_service_account_must_be_named(chart):
    with pytest.raises(HelmError, match=r"serviceAccount\.name"):
        objects(chart, {"serviceAccount": {"create": False}})


def test_the_default_values_are_described_by_the_schema(chart):
    def undescribed(values, schema, path=""):
        for key, value in values.items():
            below = schema.get("properties", {}).get(key)
            if below is None:
                if schema.get("properties") is not None:
                    yield f"{path}.{key}"
            elif isinstance(value, dict):
                yield from undescribed(value, below, f"{path}.{key}")

    assert list(undescribed(chart.values, chart.schema)) == []
