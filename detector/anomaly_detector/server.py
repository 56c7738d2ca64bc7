"""HTTP for users (8080) and for the other color, previews and peers (8082): the protocols around the data plane.

Each request: read the body, limit in flight, parse, score, answer; then, off its path, count, observe and copy.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.description import MODEL_PATHS, Description, json_answer
from anomaly_detector.exchange import Exchange
from anomaly_detector.express import GZIP_FROM, ExpressSite, Port
from anomaly_detector.intake import OVERLOADED
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Answer, Codec, Payload
from anomaly_detector.protocols.invocations import Invocations
from anomaly_detector.protocols.predict import Explain, Predict
from anomaly_detector.protocols.v2 import Infer
from anomaly_detector.report import Source

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LARGE_BYTES = 128 * 1024
"""Bodies beyond it are read and answered in a thread: milliseconds in which others would wait."""


class DataServer:
    """The routes that users and the other color share; who asks is fixed on 8080 and named by a header on 8082."""

    def __init__(self, pod: Pod, accounting: Accounting, cache: Cache, *, for_users: bool) -> None:
        self._pod, self._for_users = pod, for_users
        self._exchange = Exchange(pod, accounting, for_users=for_users)
        self._described = Description(pod, cache)
        self._codecs: Mapping[str, Codec] = {
            "/predict": Predict(),
            "/explain": Explain(),
            "/invocations": Invocations(),
        }
        self._infer = Infer()
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
        for path, codec in self._codecs.items():
            app.router.add_post(path, self._scoring(codec))
        infer = self._scoring(self._infer)
        for path in MODEL_PATHS:
            app.router.add_post(f"{path}/infer", infer)
        for path in ("/health", "/v2/health/live"):
            app.router.add_get(path, health)
        ready = readiness(self._pod)
        for path in ("/ready", "/v2/health/ready", "/ping"):
            app.router.add_get(path, ready)
        app.add_routes(self._described.routes(with_artifact=not self._for_users))
        return app

    def site(
        self, runner: web.AppRunner, address: tuple[str | None, int], *, keep_alive: float
    ) -> tuple[ExpressSite, Port]:
        """Return the port of `runner`, which runs the application, and what its connections share."""
        if runner.server is None:
            raise RuntimeError("set the runner up before")
        port = Port(
            self._pod,
            self._exchange,
            self._everyday,
            runner.server,
            headers={**self._headers, "Server": SERVER_SOFTWARE},
            closing=self._closing,
            keep_alive=keep_alive,
        )
        return ExpressSite(runner, port, address), port

    def _everyday(self, serving: Serving) -> Mapping[str, Codec]:
        """Return the codecs by path, the model's names written out."""
        contract = serving.plane.model.contract
        paths = [
            path.format(model=name, version=contract.version)
            for path in MODEL_PATHS
            for name in (contract.model, self._pod.settings.registered_model)
        ]
        return {**self._codecs, **{f"{path}/infer": self._infer for path in paths}}

    def _closing(self) -> bool:
        """Say whether answers close their connections."""
        return self._pod.terminating or (self._for_users and self._pod.closing)

    async def _finish(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in self._headers.items():
            response.headers.setdefault(name, value)
        if (request_id := request.headers.get("x-request-id")) is not None:
            response.headers["x-request-id"] = request_id
        if self._closing():
            response.force_close()
            response.headers["connection"] = "close"  # aiohttp chose its own before this hook

    def _scoring(self, codec: Codec) -> Handler:
        """Return the handler of a protocol."""

        async def handle(request: web.Request) -> web.StreamResponse:
            pod, source = self._pod, self._exchange.source(request.headers)
            try:
                body = await pod.intake.body(request)
            except Problem as problem:
                return _response(self._exchange.refuse(codec, problem, source))
            if pod.in_flight >= pod.settings.max_in_flight:
                full = Problem(503, OVERLOADED, "too many requests in flight; try again")
                return _response(self._exchange.refuse(codec, full, source))
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
        began = time.perf_counter()
        try:
            answer = await self._answer(request, body, codec, source)
        except Exception as error:  # noqa: BLE001 - logged there
            answer = self._exchange.crash(codec, source, began, error)
        response = _response(answer)
        if len(answer.body) >= GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _answer(self, request: web.Request, body: bytes, codec: Codec, source: Source) -> Answer:
        serving, exchange = self._pod.serving, self._exchange
        if serving is None:
            return exchange.refuse(codec, Problem(503, "NotReady", "the model is still loading; try again"), source)
        payload = Payload(body=body, content_type=request.content_type, headers=request.headers)
        given = codec, payload, source, serving.plane.model.contract
        large = len(body) > LARGE_BYTES
        try:
            self._described.check_model(request, serving)
            turn = await asyncio.to_thread(exchange.begin, *given) if large else exchange.begin(*given)
        except Problem as problem:
            return exchange.refuse(codec, problem, source)
        try:
            scored = await serving.plane.answer(turn.query)
        except Problem as problem:
            return exchange.fail(turn, problem)
        return await exchange.finish_aside(turn, scored) if large else exchange.finish(turn, scored)


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


def _response(answer: Answer) -> web.Response:
    headers = {**answer.headers, "content-type": answer.content_type}
    return web.Response(body=answer.body, status=answer.status, headers=headers)
