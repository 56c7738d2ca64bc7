"""What a model's signature says of its features is what users may send; one that contradicts the model is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import saved_models as models
from mlflow.models import infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec

from anomaly_detector.protocols import Contract, Payload
from anomaly_detector.protocols.invocations import Invocations
from anomaly_detector.protocols.v2 import metadata
from anomaly_detector.scoring import RefusedError
from anomaly_detector.scoring.flatten import flatten

DATA = models.rows(200, 3, seed=1)
NAMES = ("cpu", "mem", "net")
FRAME = pd.DataFrame(DATA, columns=NAMES)
ODD = models.rows(1, 3, seed=2) * 5


def of(given):
    """Return the signature as MLflow writes it."""
    return infer_signature(given, np.ones(1)).to_dict()


def of_columns(*types):
    return {"inputs": json.dumps(Schema([ColSpec(kind, name) for name, kind in types]).to_dict())}


def flattened(tmp_path, *, fitted_on=DATA, **saved):
    return flatten(models.save(models.forest(fitted_on), tmp_path / "m", **saved), tmp_path / "flat")


def test_a_model_fitted_on_an_array_is_asked_by_the_names_of_its_signature(tmp_path):
    scorer = models.serve(models.forest(DATA), tmp_path, signature=of(FRAME))
    contract = Contract(features=scorer.features, model="m", version="1")
    body = {"dataframe_split": {"columns": ["net", "cpu", "mem"], "data": ODD[:, [2, 0, 1]].tolist()}}
    query = Invocations().parse(Payload(body=json.dumps(body).encode()), contract)
    assert scorer.features == NAMES
    assert np.array_equal(query.rows, ODD)


@pytest.mark.parametrize(
    "signature",
    [
        None,
        {"inputs": None, "outputs": "[]"},
        of(DATA),
        of({"a": DATA[0]}),
        {"inputs": json.dumps(Schema([TensorSpec(np.dtype("float64"), (-1, -1))]).to_dict())},
        {"inputs": json.dumps(Schema([ColSpec("double")] * 3).to_dict())},
    ],
    ids=["none", "of outputs", "an array", "arrays", "any width", "columns without names"],
)
def test_without_names_in_the_signature_the_features_are_numbered(signature, tmp_path):
    assert flattened(tmp_path, signature=signature)["features"] == ["x0", "x1", "x2"]


def test_the_names_of_the_bundle_go_before_and_may_not_differ(tmp_path):
    assert flattened(tmp_path / "a", reference=DATA, features=NAMES, signature=of(FRAME))["features"] == list(NAMES)
    with pytest.raises(RefusedError) as refused:
        flattened(tmp_path / "b", reference=DATA, features=NAMES, signature=of(FRAME[["net", "mem", "cpu"]]))
    assert str(refused.value) == (
        "anomaly.json has 3 features (cpu, mem, net); the signature in MLmodel has 3 features (net, mem, cpu)"
    )


@pytest.mark.parametrize(
    ("fitted_on", "signature", "its", "the_models"),
    [
        (DATA, of(FRAME[["cpu", "mem"]]), "2 features (cpu, mem)", "3 features"),
        (DATA, of(DATA[:, :2]), "2 features", "3 features"),
        (FRAME, of(FRAME.assign(label=1.0)), "4 features (cpu, mem, net, label)", "3 features (cpu, mem, net)"),
        (FRAME, of(FRAME.set_axis(["a", "b", "c"], axis=1)), "3 features (a, b, c)", "3 features (cpu, mem, net)"),
    ],
    ids=["too few", "a narrow array", "one more", "other names"],
)
def test_a_signature_that_contradicts_the_model_is_refused_and_both_are_named(
    fitted_on, signature, its, the_models, tmp_path
):
    with pytest.raises(RefusedError) as refused:
        flattened(tmp_path, fitted_on=fitted_on, signature=signature)
    assert str(refused.value) == f"the signature in MLmodel has {its}; the model has {the_models}"


def test_a_column_that_holds_no_numbers_is_refused_by_name(tmp_path):
    with pytest.raises(RefusedError, match="the column net of type string; the detector takes rows of numbers"):
        flattened(tmp_path, signature=of_columns(("cpu", "double"), ("mem", "long"), ("net", "string")))


@pytest.mark.parametrize("inputs", ["", "{", "{}", "[3]", 7, ["cpu"]])
def test_a_signature_that_nobody_can_read_is_refused(inputs, tmp_path):
    with pytest.raises(RefusedError, match=r"MLmodel: signature\.inputs: expected a list of columns as JSON, got"):
        flattened(tmp_path, signature={"inputs": inputs})


def inputs_told(meta):
    contract = Contract(features=tuple(meta["features"]), model="m", version="1", datatypes=tuple(meta["datatypes"]))
    return {told["name"]: told["datatype"] for told in metadata(contract, {})["inputs"]}


@pytest.mark.parametrize(
    ("types", "datatypes"),
    [
        (("double", "float", "long"), ["FP64", "FP32", "INT64"]),
        (("integer", "boolean", "any"), ["INT32", "BOOL", "FP64"]),
    ],
)
def test_metadata_tell_the_types_of_the_signature(types, datatypes, tmp_path):
    signature = {"inputs": json.dumps([{"name": n, "type": t} for n, t in zip(NAMES, types, strict=True)])}
    meta = flattened(tmp_path, signature=signature)
    assert inputs_told(meta) == dict(zip(NAMES, datatypes, strict=True))


def test_metadata_tell_the_type_of_an_array_for_each_of_its_columns_and_fp64_where_nothing_is_known(tmp_path):
    meta = flattened(tmp_path / "a", signature=of(DATA.astype(np.float32)))
    assert inputs_told(meta) == dict.fromkeys(("x0", "x1", "x2"), "FP32")
    assert set(inputs_told(flattened(tmp_path / "b")).values()) == {"FP64"}
