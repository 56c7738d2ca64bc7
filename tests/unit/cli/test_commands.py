"""The command annotation, the arguments, and lint."""

import json
from pathlib import Path

import pytest

from anomaly_operator.cli.__main__ import main
from anomaly_operator.cli.commands import command_text
from anomaly_operator.cli.errors import CliError
from anomaly_operator.cli.explaining import read_rows, told
from anomaly_operator.domain import names, parse
from anomaly_operator.domain.model import Command

ROOT = Path(__file__).parents[3]


def test_a_command_is_what_the_operator_reads():
    text = command_text("7f", "rollback", "6c9d7f8b5", "jane@example.com")

    command, malformed = parse.command({names.COMMAND: text})

    assert command == Command(id="7f", verb="rollback", revision="6c9d7f8b5", by="jane@example.com")
    assert malformed == ()


def test_a_command_is_compact_with_the_user_last_as_the_admission_policy_wants_it():
    assert command_text("7f", "pause", None, "jörg") == '{"id":"7f","verb":"pause","by":"jörg"}'


@pytest.mark.parametrize("user", ['x","by":"admin', "DOMAIN\\jane"])
def test_a_user_name_that_could_pass_for_two_is_refused(user):
    with pytest.raises(CliError, match="quotes or backslashes"):
        command_text("7f", "pause", None, user)


def test_an_unknown_kubeconfig_is_named_in_one_sentence(tmp_path, capsys):
    code = main(["list", "--kubeconfig", str(tmp_path / "absent")])

    assert code == 1
    assert capsys.readouterr().err.startswith(f"error: no usable kubeconfig ({tmp_path / 'absent'})")


def test_a_time_without_zone_is_refused_with_an_example(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["history", "cpu-watch", "--at", "yesterday"])

    assert refused.value.code == 2
    assert "2026-03-01T12:00:00Z" in capsys.readouterr().err


def test_promoting_a_version_needs_a_registry(monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    assert main(["promote-version", "m", "3", "--alias", "champion"]) == 2
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_lint_passes_the_samples(capsys):
    samples = ROOT / "manifests" / "samples"

    assert main(["lint", str(samples / "minimal.yaml"), str(samples / "full.yaml")]) == 0
    assert capsys.readouterr().out == "2 AnomalyModels checked, 0 problems\n"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"model": {"name": "m", "alias": "a", "version": "1"}}, "exactly one of alias, version and stage"),
        ({"model": {"name": "m", "alias": "a"}, "blueGreen": {"autoPromotion": True}}, "spec.blueGreen.autoPromotion"),
        ({"model": {"name": "m", "alias": "a"}, "detector": {"replicas": "three"}}, "spec.detector.replicas"),
        ({"model": {"name": "m", "alias": "a", "pollInterval": "soon"}}, "spec.model.pollInterval"),
        (None, "spec"),
    ],
)
def test_lint_names_file_model_and_field(tmp_path, capsys, spec, words):
    path = tmp_path / "model.yaml"
    model = {"apiVersion": names.API_VERSION, "kind": "AnomalyModel", "metadata": {"name": "cpu-watch"}, "spec": spec}
    path.write_text(json.dumps(model))

    assert main(["lint", str(path)]) == 1
    problem = capsys.readouterr().err
    assert problem.startswith(f"{path}: cpu-watch: ")
    assert words in problem


def test_lint_of_no_yaml_says_where(tmp_path, capsys):
    path = tmp_path / "model.yaml"
    path.write_text("a: [1")

    assert main(["lint", str(path)]) == 1
    assert f"{path}: while parsing" in capsys.readouterr().err


@pytest.mark.parametrize("row", ["{", "7", '"cpu"'])
def test_a_row_that_is_none_is_shown_with_what_is_expected(row):
    with pytest.raises(CliError) as refused:
        read_rows([row])

    assert refused.value.code == 2
    assert row in str(refused.value)


def test_an_explanation_reads_as_a_person_would_ask():
    contribution = {
        "feature": "cpu_percent", "value": 97.25, "unit": "%", "contribution": 0.2, "share": 0.61,
        "direction": "INCREASES", "percentile": 0.998,
    }  # fmt: skip
    explanation = {"interpretation": "cpu_percent is far above what is usual.", "contributions": [contribution]}
    answer = {
        "version": "3",
        "predictions": [
            {"anomaly": True, "score": 0.71234, "confidence": 0.985, "explanation": explanation},
            {"anomaly": False, "score": 0.4, "confidence": None},
        ],
    }

    assert told(answer) == (
        "Row 1: ANOMALY, score 0.7123, more anomalous than 98.5% of the training data (version 3)\n"
        "cpu_percent is far above what is usual.\n"
        "FEATURE       VALUE   UNIT   EFFECT      SHARE   PERCENTILE\n"
        "cpu_percent   97.25   %      INCREASES   61%     0.998\n"
        "\n"
        "Row 2: normal, score 0.4 (version 3)"
    )
