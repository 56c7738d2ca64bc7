"""The operator's port (8081): roles, the report, the reference, drift, the rings. Tokens are signed for this pod."""

import asyncio
import csv
import io
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import numpy as np
import orjson
from aiohttp import web
from numpy.typing import NDArray

from anomaly_detector.plots.plotter import KINDS, Plotter
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.protocols import Query
from anomaly_detector.protocols.rows import by_position, loads
from anomaly_detector.rings import Anomaly
from anomaly_detector.roles import parse_assignment
from anomaly_detector.server import health, json_errors, readiness

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LONGEST_TOKEN_SECONDS = 60
LONGEST_WINDOW_TOKEN_SECONDS = 3600
WINDOW_SCOPE = "window"
LEEWAY_SECONDS = 5
DEFAULT_REFERENCE_ROWS = 256
NEWEST_ANOMALIES = 100
TOP_ANOMALIES = 10


class AdminServer:
    """Routes of the admin port."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._plotter = Plotter()

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=64 * 1024, middlewares=[json_errors, self._authorize])
        app.router.add_get("/health", health)
        app.router.add_get("/ready", readiness(self._pod))
        app.router.add_put("/role", self._role)
        app.router.add_get("/stats", self._stats)
        app.router.add_get("/reference", self._reference)
        app.router.add_get("/drift", self._drift)
        app.router.add_get("/window", self._window)
        app.router.add_get("/anomalies", self._anomalies)
        app.router.add_get("/anomalies/{id}", self._anomaly)
        app.router.add_get("/plots/{kind}", self._plot)
        app.router.add_get("/shap", self._shap)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in ("/health", "/ready"):
            return await handler(request)
        try:
            verify(
                request.headers.get("authorization", ""),
                keys=dict(self._pod.live.keys),
                audience=self._pod.settings.pod_uid,
                now=time.time(),
                path=request.path,
            )
        except (jwt.InvalidTokenError, UnicodeError) as error:
            log.warning("admin call refused: %s", error, extra={"path": request.path})
            raise Problem(401, "Unauthorized", f"authorization: {error}", "authorization") from None
        return await handler(request)

    async def _role(self, request: web.Request) -> web.Response:
        self._pod.roles.assign(parse_assignment(loads(await request.read())))
        self._pod.wake_reporter()
        return self._report()

    async def _stats(self, request: web.Request) -> web.Response:
        del request
        return self._report()

    def _report(self) -> web.Response:
        return web.Response(body=self._pod.report().to_json().encode(), content_type="application/json")

    async def _reference(self, request: web.Request) -> web.Response:
        serving = self._serving()
        bundle = serving.plane.model.bundle
        if bundle is None:
            raise Problem(404, "NoReference", "the model came without a reference; see `anomaly-train adopt`")
        wanted = _positive(request, "rows", DEFAULT_REFERENCE_ROWS)
        places = np.linspace(0, len(bundle.reference) - 1, min(wanted, len(bundle.reference))).round().astype(int)
        rows = bundle.reference[places]
        return _json(
            {
                "features": serving.plane.model.contract.features,
                "units": dict(bundle.units),
                "rows": rows,
                "scores": serving.plane.model.scorer.score(rows),
                "contamination": bundle.contamination,
            }
        )

    async def _drift(self, request: web.Request) -> web.Response:
        del request
        detector = self._serving().observer.detector
        if detector is None:
            raise Problem(404, "NoDrift", "no drift detector runs in this pod")
        return _json(detector.details())

    async def _window(self, request: web.Request) -> web.Response:
        """Return the ring of users' rows as CSV, with the time when each arrived."""
        del request
        serving = self._serving()
        times, rows = serving.observer.rows.newest()
        text = await asyncio.to_thread(_csv, serving.plane.model.contract.features, times, rows)
        return web.Response(text=text, content_type="text/csv")

    async def _anomalies(self, request: web.Request) -> web.Response:
        newest = self._serving().observer.anomalies.newest(_positive(request, "limit", NEWEST_ANOMALIES))
        return _json({"anomalies": [self._describe(anomaly) for anomaly in newest]})

    async def _anomaly(self, request: web.Request) -> web.Response:
        serving = self._serving()
        anomaly = serving.observer.anomalies.get(request.match_info["id"])
        if anomaly is None:
            raise Problem(404, "UnknownAnomaly", "id: no such anomaly is kept here", "id")
        if anomaly.explanation is None:
            said = await serving.plane.explain(anomaly.row[np.newaxis], np.array([anomaly.score]))
            anomaly.explanation = said[0] if said else None
        return _json(self._describe(anomaly))

    async def _plot(self, request: web.Request) -> web.Response:
        """Plot one row (`?row=1,2,3` or `?id=`) or the recent rows (`dependence` also needs `?feature=`)."""
        kind, serving = request.match_info["kind"], self._serving()
        explainer = serving.plane.explainer
        if kind not in KINDS:
            raise Problem(404, "UnknownPlot", f"plot: expected one of {', '.join(KINDS)}, got {kind[:80]}", "plot")
        if explainer is None:
            raise Problem(409, "ExplanationsOff", "explanations are off for this model (spec.explanations.enabled)")
        features = serving.plane.model.contract.features
        feature = request.query.get("feature", features[0])
        if feature not in features:
            raise bad_input("UnknownFeature", "feature", expected=", ".join(features)[:500], received=feature[:80])
        rows = self._one_row(request, serving) if kind in ("waterfall", "force") else _recent(serving)
        scored = await serving.plane.answer(Query(rows=rows, explain="none", shap_values=True))
        order = {"kind": kind, "features": features, "base": explainer.base, "values": scored.shap_values, "rows": rows}
        drawn = await self._plotter.plot(order | {"feature": feature})
        return web.Response(body=drawn, content_type="text/html" if kind == "force" else "image/png")

    async def _shap(self, request: web.Request) -> web.Response:
        """Return mean |SHAP| by feature and the top anomalies of users between two times (`?from=&to=`, seconds)."""
        serving = self._serving()
        explainer = serving.plane.explainer
        if explainer is None:
            raise Problem(409, "ExplanationsOff", "explanations are off for this model (spec.explanations.enabled)")
        start, end = _seconds(request, "from"), _seconds(request, "to")
        times, rows = serving.observer.rows.newest()
        rows = rows[(times >= start) & (times < end)]
        most = min(serving.plane.most_explained, len(rows))
        sample = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
        means: dict[str, float] = {}
        if len(sample):
            scored = await serving.plane.answer(Query(rows=sample, explain="none", shap_values=True))
            if scored.shap_values is not None:
                sizes = np.abs(scored.shap_values).mean(axis=0).tolist()
                means = dict(zip(serving.plane.model.contract.features, sizes, strict=True))
        top = serving.observer.anomalies.top(TOP_ANOMALIES, start, end)
        return _json(
            {
                "rows": len(rows),
                "explained": len(sample),
                "meanAbsoluteShap": means,
                "anomalies": [self._describe(anomaly) for anomaly in top],
            }
        )

    def _one_row(self, request: web.Request, serving: Serving) -> NDArray[np.float64]:
        if "id" in request.query:
            anomaly = serving.observer.anomalies.get(request.query["id"])
            if anomaly is None:
                raise Problem(404, "UnknownAnomaly", "id: no such anomaly is kept here", "id")
            return anomaly.row[np.newaxis]
        try:
            row = [[float(cell) for cell in request.query.get("row", "").split(",")]]
        except ValueError:
            raise bad_input(
                "WrongType", "row", expected="numbers with commas between them, or id=", received="something else"
            ) from None
        return by_position(row, serving.plane.model.contract, "row")

    def _describe(self, anomaly: Anomaly) -> dict[str, Any]:
        features = self._serving().plane.model.contract.features
        return {
            "id": anomaly.id,
            "time": anomaly.at.isoformat(timespec="milliseconds"),
            "source": anomaly.source,
            "row": dict(zip(features, anomaly.row.tolist(), strict=True)),
            "score": anomaly.score,
            "confidence": anomaly.confidence,
            "explanation": anomaly.explanation,
        }

    def _serving(self) -> Serving:
        if self._pod.serving is None:
            raise Problem(503, "NotReady", "the model is still loading; try again")
        return self._pod.serving


def _csv(features: tuple[str, ...], times: NDArray[np.float64], rows: NDArray[np.float64]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["time", *features])
    for at, row in zip(times.tolist(), rows.tolist(), strict=True):
        writer.writerow([datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"), *row])
    return text.getvalue()


def _recent(serving: Serving) -> NDArray[np.float64]:
    """Return the newest rows of users, or of the reference where none came yet."""
    _, rows = serving.observer.rows.newest()
    bundle = serving.plane.model.bundle
    if not len(rows) and bundle is not None:
        rows = bundle.reference
    if not len(rows):
        raise Problem(404, "NoRows", "no row came yet, and the model came without a reference")
    return rows[-serving.plane.most_explained :]


def verify(authorization: str, *, keys: dict[str, Any], audience: str, now: float, path: str) -> None:
    """Check a bearer token: signed by a key of the set, for this pod, and short-lived.

    One of scope `window`, for a training Job that starts when it starts, may live longer and opens `/window` alone.

    Raises jwt.InvalidTokenError saying what is wrong.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise jwt.InvalidTokenError("expected `Bearer <JWT>`")
    kid = jwt.get_unverified_header(token).get("kid")
    known = next((key for key in keys.get("keys", []) if isinstance(key, dict) and key.get("kid") == kid), None)
    if known is None or kid is None:
        raise jwt.InvalidTokenError("kid: no such key in jwks.json")
    try:
        public = jwt.PyJWK.from_json(json.dumps(known), algorithm="EdDSA")
    except jwt.PyJWTError as error:
        raise jwt.InvalidTokenError(f"jwks.json: {error}") from None
    claims = jwt.decode(
        token,
        public.key,
        algorithms=["EdDSA"],
        audience=audience,
        leeway=LEEWAY_SECONDS,
        options={"require": ["exp", "aud"]},
    )
    scope = claims.get("scope")
    if scope is not None and (scope, path) != (WINDOW_SCOPE, f"/{WINDOW_SCOPE}"):
        raise jwt.InvalidTokenError(f"scope: {scope!r} does not open {path}")
    longest = LONGEST_TOKEN_SECONDS if scope is None else LONGEST_WINDOW_TOKEN_SECONDS
    if claims["exp"] - now > longest + LEEWAY_SECONDS:
        raise jwt.InvalidTokenError(f"exp: more than {longest} s ahead")


def _positive(request: web.Request, name: str, default: int) -> int:
    value = request.query.get(name, str(default))
    if not (value.isascii() and value.isdigit()) or int(value[:9]) == 0:
        raise Problem(400, "WrongType", f"{name}: expected a whole number above 0, got {value[:80]}", name)
    return int(value[:9])


def _seconds(request: web.Request, name: str) -> float:
    try:
        value = float(request.query.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Problem(400, "WrongType", f"{name}: expected seconds since the epoch", name)
    return value


def _json(value: Any) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, content_type="application/json")
