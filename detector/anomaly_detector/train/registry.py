"""The MLflow server: runs, models, versions, aliases. The only module of the training that talks to it."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn
import pandas as pd
import requests
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from anomaly_detector.bundle import Bundle, digest, size, write_bundle
from anomaly_detector.logs import masked
from anomaly_detector.scoring.loading import TRUSTED_TYPES
from anomaly_detector.train.environment import prepare_mlflow
from anomaly_detector.train.errors import RegistryError
from anomaly_detector.train.event import EVENT_ID
from anomaly_detector.train.table import Floats

MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter: an alias that a model does not have
EXAMPLE_ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a training leaves in the tracking server besides the model."""

    experiment: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    documents: Mapping[str, Any]
    """JSON documents by file name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A model as the server stores it."""

    run_id: str
    source: str
    """`models:/m-...`."""
    digest: str
    """Of what was stored, not of what was sent."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version in the registry."""

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str]


class Registry:
    """One MLflow server, for tracking and as registry, for this process."""

    def __init__(self, tracking_uri: str) -> None:
        """Set time limits, credentials and the server for MLflow in this process; talks to nobody yet."""
        prepare_mlflow()
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(tracking_uri)
        self.uri = tracking_uri
        self._client = mlflow.MlflowClient(tracking_uri)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except (MlflowException, requests.RequestException) as error:
            words = " ".join(str(error).split())[:500]
            raise RegistryError(masked(f"registry {self.uri}: {what}: {words}")) from error

    def check(self, name: str) -> None:
        """Make sure, before time is spent on training, that the server answers and takes the model's name.

        Registers the model if it is new. Raises RegistryError.
        """
        with self._asking(f"registered model {name}"):
            try:
                self._client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self._create(name)

    def _create(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another training was quicker
                raise

    def log(self, run: Run, pipeline: Any, bundle: Bundle, rows: Floats) -> Logged:
        """Store a run with its model and bundle; the first of `rows` become the input example.

        Raises RegistryError.
        """
        with self._asking("storing the run"):
            experiment = mlflow.set_experiment(run.experiment)
            with mlflow.start_run(experiment_id=experiment.experiment_id, tags=dict(run.tags)) as started:
                mlflow.log_params(dict(run.parameters))
                mlflow.log_metrics(dict(run.metrics))
                for name, document in run.documents.items():
                    mlflow.log_dict(document, name)
                model_id = _log_model(pipeline, bundle, rows)
            return self._stored(started.info.run_id, model_id)

    def _stored(self, run_id: str, model_id: str) -> Logged:
        source = f"models:/{model_id}"
        with tempfile.TemporaryDirectory() as folder:
            stored = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=folder))
            return Logged(run_id=run_id, source=source, digest=digest(stored), size=size(stored))

    def store_copy(self, folder: Path, *, of: Version, tags: Mapping[str, str]) -> Logged:
        """Store a model folder that was made from version `of`, under the run of that version. Raises RegistryError."""
        with self._asking("storing the model"):
            run = self._client.get_run(of.run_id)
            model = self._client.create_logged_model(
                run.info.experiment_id, name="model", source_run_id=of.run_id, tags=dict(tags)
            )
            described = mlflow.models.Model.load(folder / "MLmodel")
            described.model_id = described.model_uuid = model.model_id
            described.artifact_path = model.artifact_location
            described.save(str(folder / "MLmodel"))
            self._client.log_model_artifacts(model.model_id, str(folder))
            self._client.finalize_logged_model(model.model_id, "READY")
            return self._stored(of.run_id, model.model_id)

    def register(self, name: str, logged: Logged, *, description: str, tags: Mapping[str, str]) -> Version:
        """Make a version of a stored model; it has all its tags from the first moment on. Raises RegistryError."""
        with self._asking(f"registering a version of {name}"):
            self._create(name)
            made = self._client.create_model_version(
                name,
                source=logged.source,
                run_id=logged.run_id,
                tags=dict(tags),
                description=description,
                model_id=logged.source.removeprefix("models:/"),
            )
        return _version(made)

    def version(self, name: str, number: str) -> Version:
        """Return one version. Raises RegistryError if there is none."""
        with self._asking(f"{name} version {number}"):
            return _version(self._client.get_model_version(name, number))

    def parameters(self, run_id: str) -> dict[str, str]:
        """Return what a run logged as parameters; nothing if the run is gone. Raises RegistryError."""
        with self._asking(f"run {run_id}"):
            try:
                return dict(self._client.get_run(run_id).data.params)
            except MlflowException as error:
                if error.error_code in MISSING:
                    return {}
                raise

    def holder(self, name: str, alias: str) -> Version | None:
        """Return the version that has an alias, or none. Raises RegistryError."""
        with self._asking(f"alias {alias} of {name}"):
            try:
                return _version(self._client.get_model_version_by_alias(name, alias))
            except MlflowException as error:
                if error.error_code in MISSING:
                    return None
                raise

    def answer_to(self, name: str, event_id: str) -> Version | None:
        """Return the version that was trained for an event, or none. Raises RegistryError."""
        with self._asking(f"versions for event {event_id}"):
            found = self._client.search_model_versions(f"name='{name}' and tags.`{EVENT_ID}`='{event_id}'")
        return _version(max(found, key=lambda version: int(version.version))) if found else None

    def move_alias(self, version: Version, alias: str) -> None:
        """Give a version an alias, taking it from the one that has it. Raises RegistryError."""
        with self._asking(f"alias {alias} of {version.name}"):
            self._client.set_registered_model_alias(version.name, alias, version.version)

    def log_files(self, run_id: str, folder: Path, *, under: str) -> None:
        """Store files with a run. Raises RegistryError."""
        with self._asking(f"run {run_id}"):
            self._client.log_artifacts(run_id, str(folder), under)

    def download(self, version: Version, folder: Path) -> Path:
        """Bring a version's model into `folder` and return where it lies. Raises RegistryError."""
        with self._asking(f"artifacts of {version.name} version {version.version}"):
            uri = f"models:/{version.name}/{version.version}"
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def _version(found: Any) -> Version:
    return Version(
        name=found.name,
        version=str(found.version),
        run_id=found.run_id or "",
        source=found.source,
        tags=dict(found.tags or {}),
    )


def _log_model(pipeline: Any, bundle: Bundle, rows: Floats) -> str:
    """Store the model and its bundle with the active run and return the model's id."""
    example = pd.DataFrame(rows[:EXAMPLE_ROWS], columns=list(bundle.features))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Trained on arrays, so that serving needs no data frames; MLflow tries it with the example, a data frame.
        warnings.filterwarnings("ignore", message="X has feature names")
        info = mlflow.sklearn.log_model(
            pipeline,
            name="model",
            serialization_format="skops",
            skops_trusted_types=sorted(TRUSTED_TYPES),
            signature=infer_signature(example, pipeline.predict(rows[:EXAMPLE_ROWS])),
            input_example=example,
            # Given, because finding them out by importing everything anew takes longer than training.
            pip_requirements=[f"{name}=={found}" for name, found in bundle.libraries.items()],
            extra_files=[str(path) for path in write_bundle(Path(folder), bundle)],
        )
    return str(info.model_id)
