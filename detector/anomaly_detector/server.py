"""HTTP for users (8080) and for the other color, previews and peers (8082): the protocols around the data plane.

Each request: read the body, limit in flight, parse, score, answer; then, off its path, count, observe and copy.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web

from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.description import MODEL_PATHS, Description, json_answer
from anomaly_detector.intake import OVERLOADED
from anomaly_detector.pod import Pod
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Answer, Codec, Payload, Query, Scored
from anomaly_detector.protocols.invocations import Invocations
from anomaly_detector.protocols.predict import Explain, Predict
from anomaly_detector.protocols.v2 import Infer
from anomaly_detector.report import SOURCES, Source
from anomaly_detector.shadow import trace_headers

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RETRY_AFTER = "1"
GZIP_FROM = 16 * 1024
_SERVER_ERROR = 500


class DataServer:
    """The routes that users and the other color share. `own_source` is fixed on 8080 and by header on 8082."""

    def __init__(self, pod: Pod, accounting: Accounting, cache: Cache, *, for_users: bool) -> None:
        self._pod, self._accounting, self._for_users = pod, accounting, for_users
        self._described = Description(pod, cache)
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
        for path in MODEL_PATHS:
            app.router.add_post(f"{path}/infer", infer)
        for path in ("/health", "/v2/health/live"):
            app.router.add_get(path, health)
        ready = readiness(self._pod)
        for path in ("/ready", "/v2/health/ready", "/ping"):
            app.router.add_get(path, ready)
        app.add_routes(self._described.routes(with_artifact=not self._for_users))
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
            try:
                body = await pod.intake.body(request)
            except Problem as problem:
                return self._refuse(codec, problem, source)
            if pod.in_flight >= pod.settings.max_in_flight:
                return self._refuse(codec, Problem(503, OVERLOADED, "too many requests in flight; try again"), source)
            pod.in_flight += 1
            try:
                return await self._handle(request, body, codec, source)
            finally:
                pod.in_flight -= 1

        return handle

    async def _handle(self, request: web.Request, body: bytes, codec: Codec, source: Source) -> web.StreamResponse:
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

    async def _answer(self, request: web.Request, body: bytes, codec: Codec, source: Source) -> web.StreamResponse:
        serving = self._pod.serving
        if serving is None:
            return self._refuse(codec, Problem(503, "NotReady", "the model is still loading; try again"), source)
        contract = serving.plane.model.contract
        times = [time.perf_counter()]
        try:
            self._described.check_model(request, serving)
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
        # The answer goes out first: the loop comes to this when it has been written.
        asyncio.get_running_loop().call_soon(self._account, request, query, scored, source, tuple(times))
        response = _response(answer)
        if len(answer.body) >= GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response

    def _account(
        self, request: web.Request, query: Query, scored: Scored, source: Source, times: tuple[float, ...]
    ) -> None:
        self._accounting.served(query, scored, source, times)
        self._accounting.observe(query, scored, source)
        self._copy(request, query, scored)

    def _copy(self, request: web.Request, query: Query, scored: Scored | None) -> None:
        """Copy what users ask; requests on 8082 are copies already."""
        if self._for_users:
            self._accounting.copy(query, scored, trace_headers(request.headers))

    def _refuse(self, codec: Codec, problem: Problem, source: Source) -> web.Response:
        if problem.status < _SERVER_ERROR:
            self._accounting.refused(source)
        elif problem.reason == OVERLOADED:
            self._accounting.shed(source)
        return _response(codec.refuse(problem), retry_after=problem.status >= _SERVER_ERROR)

    def _source(self, request: web.Request) -> Source:
        if self._for_users:
            return "user"
        named = request.headers.get("x-anomaly-source", "shadow")
        return named if named in SOURCES else "shadow"


async def health(request: web.Request) -> web.Response:
    """Answer while the event loop turns."""
    del request
    return json_answer({"status": "alive", "live": True})


def readiness(pod: Pod) -> Handler:
    """Return the handler that answers 200 once the model is warm and until the pod ends."""

    async def ready(request: web.Request) -> web.Response:
        del request
        ready = pod.ready and not pod.terminating
        status = "terminating" if pod.terminating else "ready" if ready else "loading"
        # KServe's client reads `ready`; people and probes read the status.
        return json_answer({"status": status, "ready": ready}, status=200 if ready else 503)

    return ready


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what has no route, and problems raised outside a protocol, as JSON."""
    try:
        return await handler(request)
    except Problem as problem:
        return json_answer(problem.to_json(), status=problem.status)
    except web.HTTPException as error:
        said = Problem(error.status, error.reason.replace(" ", ""), f"{request.method} {request.path}: {error.reason}")
        response = json_answer(said.to_json(), status=error.status)
        if "allow" in error.headers:
            response.headers["allow"] = error.headers["allow"]
        return response


def _response(answer: Answer, *, retry_after: bool = False) -> web.Response:
    headers = dict(answer.headers)
    headers["content-type"] = answer.content_type
    if retry_after:
        headers["retry-after"] = RETRY_AFTER
    return web.Response(body=answer.body, status=answer.status, headers=headers)
