"""What the repository ships as YAML: samples fit the CRD, kustomize renders, generated files are current."""

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
MODELS = [
    path
    for path in sorted((*ROOT.glob("manifests/samples/*.yaml"), *ROOT.glob("demo/*.yaml")))
    if "kind: AnomalyModel\n" in path.read_text()
]


def structural(schema):
    """Return the schema with the API server's reading of it: unknown fields are refused unless preserved."""
    result = {k: v for k, v in schema.items() if not k.startswith("x-kubernetes-")}
    if schema.get("nullable"):
        result["type"] = [schema["type"], "null"]
    if "properties" in schema:
        result["properties"] = {k: structural(v) for k, v in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = structural(schema["items"])
    return result


@pytest.fixture(scope="module")
def schema():
    crd = yaml.safe_load((ROOT / "crds" / "anomalymodels.anomalymodel.dev.yaml").read_text())
    root = structural(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    root["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    return root


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_every_anomalymodel_that_we_ship_fits_the_schema(schema, path):
    for document in yaml.safe_load_all(path.read_text()):
        jsonschema.validate(document, schema)


def test_an_unknown_field_does_not_fit_the_schema(schema):
    model = yaml.safe_load((ROOT / "manifests/samples/minimal.yaml").read_text())
    model["spec"]["blueGreen"] = {"autoPromotion": True}

    with pytest.raises(jsonschema.ValidationError, match="autoPromotion"):
        jsonschema.validate(model, schema)


def test_the_full_sample_shows_every_field_of_the_spec(schema):
    sample = yaml.safe_load((ROOT / "manifests/samples/full.yaml").read_text())
    text = (ROOT / "manifests/samples/full.yaml").read_text()

    def missing(schema, value, path):
        for key, below in schema.get("properties", {}).items():
            if key not in value:
                if f"# {key}:" not in text:  # shown as a comment, because it excludes another or has no sane example
                    yield f"{path}.{key}"
            elif isinstance(value[key], dict):
                yield from missing(below, value[key], f"{path}.{key}")

    absent = set(missing(schema["properties"]["spec"], sample["spec"], "spec"))

    excluded_by_another = {"spec.model.version", "spec.model.stage", "spec.source.influxdb.query"}
    repeated = {a for a in absent if "PromotionAnalysis.gates" in a}
    assert absent - excluded_by_another - repeated == set()


@pytest.mark.parametrize(
    "folder", sorted({p.parent for p in ROOT.glob("manifests/**/kustomization.yaml")}), ids=lambda p: p.name
)
def test_kustomize_renders_each_folder_of_manifests(folder):
    done = subprocess.run([BIN / "kubectl", "kustomize", folder], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert all(d["kind"] for d in yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("command", [["-m", "anomaly_operator.crdgen", "--check"], ["manifests/render.py", "--check"]])
def test_generated_files_are_current(command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=ROOT)

    assert (done.returncode, done.stderr) == (0, "")


def test_argo_cd_knows_a_word_for_every_phase(schema):
    phases = schema["properties"]["status"]["properties"]["phase"]["enum"]
    health = (ROOT / "manifests/argocd/health.lua").read_text()

    assert [phase for phase in phases if f"{phase} = " not in health] == []
