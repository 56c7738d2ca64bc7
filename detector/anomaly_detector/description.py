"""What a pod says of itself: metadata of server and model, the OpenAPI document, and for peers the artifact."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from anomaly_detector import openapi
from anomaly_detector.cache import Cache
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Contract
from anomaly_detector.protocols.v2 import metadata

MODEL_PATHS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


class Description:
    """The routes that only tell."""

    def __init__(self, pod: Pod, cache: Cache) -> None:
        self._pod, self._cache = pod, cache

    def routes(self, *, with_artifact: bool) -> list[web.RouteDef]:
        """Return the routes; the artifact is for peers, not for users."""
        told = [
            web.get("/v2", self._server_metadata),
            web.get("/version", self._version),
            web.get("/openapi.json", self._openapi),
        ]
        for path in MODEL_PATHS:
            told += [web.get(path, self._model_metadata), web.get(f"{path}/ready", self._model_ready)]
        return [*told, web.get("/artifact/{hex}", self._artifact)] if with_artifact else told

    def check_model(self, request: web.Request, serving: Serving) -> None:
        """Raise Problem (404) if the path names another model or version."""
        contract, settings, path = serving.plane.model.contract, self._pod.settings, request.match_info
        if "model" in path and path["model"] not in (contract.model, settings.registered_model):
            raise Problem(404, "UnknownModel", f"model: expected {contract.model}, got {path['model'][:80]}", "model")
        if "version" in path and path["version"] != contract.version:
            raise Problem(
                404, "UnknownVersion", f"version: expected {contract.version}, got {path['version'][:80]}", "version"
            )

    async def _model_metadata(self, request: web.Request) -> web.Response:
        serving = self._loaded(request)
        model = serving.plane.model
        bundle = model.bundle
        parameters = {
            "scoring": model.scorer.kind,
            "revision": self._pod.settings.revision,
            "threshold": model.scorer.threshold,
            "estimator": None if bundle is None else bundle.estimator,
            "units": {} if bundle is None else dict(bundle.units),
        }
        return json_answer(metadata(model.contract, parameters))

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._loaded(request)
        ready = self._pod.ready and not self._pod.terminating
        return json_answer({"name": self._pod.settings.model, "ready": ready}, status=200 if ready else 503)

    def _loaded(self, request: web.Request) -> Serving:
        serving = self._pod.serving
        if serving is None:
            raise Problem(503, "NotReady", "the model is still loading; try again")
        self.check_model(request, serving)
        return serving

    async def _server_metadata(self, request: web.Request) -> web.Response:
        del request
        return json_answer(
            {"name": "anomaly-detector", "version": openapi.VERSION, "extensions": ["binary_tensor_data"]}
        )

    async def _version(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text=self._pod.settings.version)

    async def _openapi(self, request: web.Request) -> web.Response:
        del request
        serving, settings = self._pod.serving, self._pod.settings
        unknown = Contract(model=settings.model, version=settings.version, features=())
        return json_answer(openapi.document(serving.plane.model.contract if serving else unknown))

    async def _artifact(self, request: web.Request) -> web.StreamResponse:
        """Send the artifact to a peer that cannot reach the registry."""
        path = await asyncio.to_thread(self._cache.tar, request.match_info["hex"])
        if path is None:
            raise Problem(404, "UnknownArtifact", "this pod has no such artifact")
        return web.FileResponse(path, headers={"content-type": "application/x-tar"})


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Return an answer with a JSON body."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
