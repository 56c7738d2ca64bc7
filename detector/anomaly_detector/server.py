"""HTTP for users (8080) and for the other color, previews and peers (8082): the protocols around the data plane.

Each request: limit in flight, read the body, parse, score, count, answer; then, off its path, observe and copy.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from anomaly_detector import openapi
from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Answer, Codec, Payload, Query, Scored
from anomaly_detector.protocols.invocations import Invocations
from anomaly_detector.protocols.predict import Explain, Predict
from anomaly_detector.protocols.v2 import Infer, metadata
from anomaly_detector.report import SOURCES, Source
from anomaly_detector.shadow import trace_headers

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
READ_SECONDS = 30.0
"""How long a client may take to send its body."""
RETRY_AFTER = "1"
GZIP_FROM = 16 * 1024
_SERVER_ERROR, _TIMED_OUT = 500, 504


class DataServer:
    """The routes that users and the other color share. `own_source` is fixed on 8080 and by header on 8082."""

    def __init__(self, pod: Pod, accounting: Accounting, cache: Cache, *, for_users: bool) -> None:
        self._pod, self._accounting, self._cache = pod, accounting, cache
        self._for_users = for_users
        settings = pod.settings
        self._headers = {
            "x-anomaly-version": settings.version,
            "x-anomaly-revision": settings.revision,
            "x-anomaly-color": settings.color,
        }

    def app(self) -> web.Application:
        """Return the application for a port."""
        app = web.Application(client_max_size=self._pod.settings.max_payload_bytes, middlewares=[json_errors])
        app.on_response_prepare.append(self._finish)
        infer = self._scoring(Infer())
        app.router.add_post("/predict", self._scoring(Predict()))
        app.router.add_post("/explain", self._scoring(Explain()))
        app.router.add_post("/invocations", self._scoring(Invocations()))
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            app.router.add_post(f"{model}/infer", infer)
            app.router.add_get(model, self._model_metadata)
            app.router.add_get(f"{model}/ready", self._model_ready)
        app.router.add_get("/v2", self._server_metadata)
        for path in ("/health", "/v2/health/live"):
            app.router.add_get(path, health)
        ready = readiness(self._pod)
        for path in ("/ready", "/v2/health/ready", "/ping"):
            app.router.add_get(path, ready)
        app.router.add_get("/version", self._version)
        app.router.add_get("/openapi.json", self._openapi)
        if not self._for_users:
            app.router.add_get("/artifact/{hex}", self._artifact)
        return app

    async def _finish(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in self._headers.items():
            response.headers.setdefault(name, value)
        if (request_id := request.headers.get("x-request-id")) is not None:
            response.headers["x-request-id"] = request_id
        if self._pod.terminating or (self._for_users and self._pod.closing):
            response.force_close()
            response.headers["connection"] = "close"  # aiohttp chose its own before this hook

    def _scoring(self, codec: Codec) -> Handler:
        """Return the handler of a protocol."""

        async def handle(request: web.Request) -> web.StreamResponse:
            pod, source = self._pod, self._source(request)
            if pod.in_flight >= pod.settings.max_in_flight:
                self._accounting.shed(source)
                problem = Problem(503, "Overloaded", "too many requests in flight; try again")
                return _response(codec.refuse(problem), retry_after=True)
            pod.in_flight += 1
            try:
                return await self._handle(request, codec, source)
            finally:
                pod.in_flight -= 1

        return handle

    async def _handle(self, request: web.Request, codec: Codec, source: Source) -> web.StreamResponse:
        try:
            body = await self._body(request)
        except Problem as problem:
            return self._refuse(codec, problem, source)
        pod = self._pod
        if self._for_users and pod.roles.current.role == "draining" and pod.roles.current.pass_through:
            passed = await pod.pass_through.ask(request, body)
            if passed is not None:
                return passed
        response: web.StreamResponse
        began = time.perf_counter()
        try:
            response = await self._answer(request, body, codec, source)
        except Exception as error:
            log.exception("a request could not be answered")
            self._accounting.failed(0, source, time.perf_counter() - began)
            response = _response(codec.refuse(Problem(500, "ServerError", f"not answered: {type(error).__name__}")))
        if source == "user":
            pod.last_own_user_answer = datetime.now(UTC)
        return response

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            limit = self._pod.settings.max_payload_bytes
            raise Problem(
                413, "TooLarge", f"body: expected at most {limit} bytes", "body", f"at most {limit} bytes"
            ) from None
        except TimeoutError:
            raise Problem(408, "BodyTimeout", f"body: not received within {READ_SECONDS:g} s", "body") from None
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a decompressor raises, the client sent it
            raise Problem(400, "BadEncoding", f"body: cannot be decoded: {type(error).__name__}", "body") from None

    async def _answer(self, request: web.Request, body: bytes, codec: Codec, source: Source) -> web.StreamResponse:
        serving = self._pod.serving
        if serving is None:
            return self._refuse(codec, Problem(503, "NotReady", "the model is still loading; try again"), source)
        contract = serving.plane.model.contract
        times = [time.perf_counter()]
        try:
            self._check_model(request, serving)
            payload = Payload(body=body, content_type=request.content_type, headers=request.headers)
            query = codec.parse(payload, contract)
        except Problem as problem:
            return self._refuse(codec, problem, source)
        times.append(time.perf_counter())
        try:
            scored = await serving.plane.answer(query)
        except Problem as problem:
            if problem.status >= _SERVER_ERROR:
                self._accounting.failed(len(query.rows), source, time.perf_counter() - times[0])
                self._copy(request, query, None)
                return _response(codec.refuse(problem))
            return self._refuse(codec, problem, source)
        times.append(time.perf_counter())
        answer = codec.render(query, scored, contract)
        times.append(time.perf_counter())
        self._accounting.served(query, scored, source, tuple(times))
        self._accounting.observe(query, scored, source)
        self._copy(request, query, scored)
        response = _response(answer)
        if len(answer.body) >= GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response

    def _copy(self, request: web.Request, query: Query, scored: Scored | None) -> None:
        """Copy what users ask; requests on 8082 are copies already."""
        if self._for_users:
            self._accounting.copy(query, scored, trace_headers(request.headers))

    def _refuse(self, codec: Codec, problem: Problem, source: Source) -> web.Response:
        if problem.status < _SERVER_ERROR:
            self._accounting.refused(source)
        return _response(codec.refuse(problem), retry_after=problem.status >= _SERVER_ERROR)

    def _source(self, request: web.Request) -> Source:
        if self._for_users:
            return "user"
        named = request.headers.get("x-anomaly-source", "shadow")
        return named if named in SOURCES else "shadow"

    def _check_model(self, request: web.Request, serving: Serving) -> None:
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
        return _json(metadata(model.contract, parameters))

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._loaded(request)
        ready = self._pod.ready and not self._pod.terminating
        return _json({"name": self._pod.settings.model, "ready": ready}, status=200 if ready else 503)

    def _loaded(self, request: web.Request) -> Serving:
        serving = self._pod.serving
        if serving is None:
            raise Problem(503, "NotReady", "the model is still loading; try again")
        self._check_model(request, serving)
        return serving

    async def _server_metadata(self, request: web.Request) -> web.Response:
        del request
        return _json({"name": "anomaly-detector", "version": openapi.VERSION, "extensions": ["binary_tensor_data"]})

    async def _version(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text=self._pod.settings.version)

    async def _openapi(self, request: web.Request) -> web.Response:
        del request
        serving = self._pod.serving
        features = serving.plane.model.contract.features if serving else ()
        return _json(openapi.document(self._pod.settings.model, features))

    async def _artifact(self, request: web.Request) -> web.StreamResponse:
        """Send the artifact to a peer that cannot reach the registry."""
        path = await asyncio.to_thread(self._cache.tar, request.match_info["hex"])
        if path is None:
            raise Problem(404, "UnknownArtifact", "this pod has no such artifact")
        return web.FileResponse(path, headers={"content-type": "application/x-tar"})


async def health(request: web.Request) -> web.Response:
    """Answer while the event loop turns."""
    del request
    return _json({"status": "alive"})


def readiness(pod: Pod) -> Handler:
    """Return the handler that answers 200 once the model is warm and until the pod ends."""

    async def ready(request: web.Request) -> web.Response:
        del request
        if pod.terminating:
            return _json({"status": "terminating"}, status=503)
        return _json({"status": "ready"}) if pod.ready else _json({"status": "loading"}, status=503)

    return ready


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what has no route, and problems raised outside a protocol, as JSON."""
    try:
        return await handler(request)
    except Problem as problem:
        return _json(problem.to_json(), status=problem.status)
    except web.HTTPException as error:
        said = Problem(error.status, error.reason.replace(" ", ""), f"{request.method} {request.path}: {error.reason}")
        response = _json(said.to_json(), status=error.status)
        if "allow" in error.headers:
            response.headers["allow"] = error.headers["allow"]
        return response


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _response(answer: Answer, *, retry_after: bool = False) -> web.Response:
    headers = dict(answer.headers)
    headers["content-type"] = answer.content_type
    if retry_after:
        headers["retry-after"] = RETRY_AFTER
    return web.Response(body=answer.body, status=answer.status, headers=headers)
