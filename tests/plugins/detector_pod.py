"""Real models, and the real detector as a process of its own on an address of its own."""

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import numpy as np
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anomaly_detector import bundle

FEATURES = ("cpu_percent", "memory_percent", "network_mbps")
NORMAL, ODD, ZERO = [40.0, 50.0, 5.0], [99.0, 95.0, 80.0], [40.0, 50.0, 0.0]
POD_UID = "3f0c6f1e-8d1f-4f1e-9a53-0c1c0f1d2e3a"
_numbers = itertools.count(random.Random(os.getpid()).randrange(1000))


def free_address() -> str:
    """Return a loopback address on which nobody listens."""
    while True:
        number = next(_numbers)
        address = f"127.{80 + os.getpid() % 40}.{number // 250 % 250 + 1}.{number % 250 + 1}"
        try:
            for port in (8080, 8081, 8082, 9090):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
        except OSError:
            continue
        return address


def training_rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.normal(40, 10, 2000), rng.normal(50, 5, 2000), rng.gamma(2, 3, 2000)])


def save_model(folder: Path, *steps, allow: tuple[str, ...] = (), with_bundle: bool = True, fmt: str = "skops") -> Path:
    """Train a pipeline on the training rows and save it as MLflow does, with its bundle."""
    import mlflow.sklearn  # noqa: PLC0415 - takes seconds to import
    import pandas as pd  # noqa: PLC0415 - takes seconds to import
    import sklearn  # noqa: PLC0415 - takes seconds to import
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415 - takes seconds to import
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - takes seconds to import

    rows = training_rows()
    forest = IsolationForest(n_estimators=50, contamination=0.15, random_state=0)
    model = make_pipeline(*steps, forest).fit(pd.DataFrame(rows, columns=FEATURES))
    scores = -model.score_samples(pd.DataFrame(rows, columns=FEATURES))
    extra = None
    if with_bundle:
        files = bundle.write_bundle(
            folder.parent / f"{folder.name}-extra",
            bundle.Bundle(
                features=FEATURES,
                units={"cpu_percent": "%", "network_mbps": "Mbps"},
                contamination=0.15,
                threshold=float(-model[-1].offset_),
                estimator="IsolationForest",
                format=fmt,
                trained_at="2026-01-01T00:00:00+00:00",
                training_rows=len(rows),
                libraries={"scikit-learn": sklearn.__version__},
                calibration=None,
                reference=rows,
                scores=np.sort(scores),
            ),
        )
        extra = [str(path) for path in files]
    mlflow.sklearn.save_model(
        model,
        str(folder),
        serialization_format=fmt,
        skops_trusted_types=["sklearn.tree._tree.Tree", *allow] if fmt == "skops" else None,
        extra_files=extra,
        pip_requirements=["scikit-learn"],
    )
    return folder


def jwks(key: Ed25519PrivateKey, kid: str = "k1") -> str:
    return json.dumps({"keys": [json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key())) | {"kid": kid}]})


def token(key: Ed25519PrivateKey, *, audience: str = POD_UID, seconds: float = 60, kid: str = "k1", **claims) -> str:
    return jwt.encode(
        {"aud": audience, "exp": time.time() + seconds, **claims}, key, algorithm="EdDSA", headers={"kid": kid}
    )


class Detector:
    """One running pod."""

    def __init__(self, folder: Path, model: Path, key: Ed25519PrivateKey) -> None:
        self.address = free_address()
        self.config_dir = folder / "config"
        # What does not depend on the test is verified and flattened once for all of them.
        self.cache_dir = model.parent / f"{model.name}-cache"
        self.log = folder / "log"
        self.key = key
        self.digest = bundle.digest(model)
        self.config_dir.mkdir()
        self.write_config({})
        (self.config_dir / "jwks.json").write_text(jwks(key))
        place = self.cache_dir / self.digest.removeprefix("sha256:")
        if not place.is_dir():
            shutil.copytree(model, place)
        self.environment = {
            **os.environ,
            "ANOMALY_MODEL": "cpu-watch",
            "ANOMALY_NAMESPACE": "ml",
            "ANOMALY_POD_NAME": "cpu-watch-blue-1",
            "ANOMALY_POD_UID": POD_UID,
            "ANOMALY_COLOR": "blue",
            "ANOMALY_REVISION": "rev-1",
            "ANOMALY_REGISTERED_MODEL": "anomaly-detection-production",
            "ANOMALY_VERSION": "3",
            "ANOMALY_SOURCE": "models:/m-1",
            "ANOMALY_DIGEST": self.digest,
            "ANOMALY_CONFIG_DIR": str(self.config_dir),
            "ANOMALY_CACHE_DIR": str(self.cache_dir),
            "ANOMALY_DRAIN_SECONDS": "1",
            "ANOMALY_WINDOW_SECONDS": "600",  # nothing that a test counts is forgotten before it ends
        }
        self.process: subprocess.Popen | None = None

    def write_config(self, value: dict) -> None:
        new = self.config_dir / "new"
        new.write_text(json.dumps({"schemaVersion": 1, **value}))
        new.replace(self.config_dir / "config.json")

    def url(self, port: int, path: str = "") -> str:
        return f"http://{self.address}:{port}{path}"

    @property
    def admin_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {token(self.key)}"}

    def start(self) -> None:
        command = [sys.executable, "-m", "anomaly_detector", "--bind", self.address, "serve"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stderr=log)

    async def until_ready(self) -> None:
        async with aiohttp.ClientSession() as session:
            await until(lambda: self._is_ready(session), "the detector is ready", self)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the detector ended with {self.process.returncode}:\n{self.log.read_text()}")
        try:
            async with session.get(self.url(8081, "/ready")) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise

    async def put_role(self, session: aiohttp.ClientSession, role: str, epoch: int, **more) -> dict:
        body = {"role": role, "epoch": epoch, **more}
        async with session.put(self.url(8081, "/role"), json=body, headers=self.admin_headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def stats(self, session: aiohttp.ClientSession) -> dict:
        async with session.get(self.url(8081, "/stats"), headers=self.admin_headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


async def until(condition, what: str, detector: Detector | None = None, seconds: float = 60) -> None:
    """Wait until an async condition holds; fail in words after a generous time."""
    end = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > end:
            log = f"\n{detector.log.read_text()}" if detector else ""
            raise AssertionError(f"not within {seconds} s: {what}{log}")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(detector: Detector) -> AsyncIterator[Detector]:
    detector.start()
    try:
        await detector.until_ready()
        yield detector
    finally:
        detector.stop()


class OtherColor:
    """The other color's Service, as a server that answers what a test wants and keeps what it was sent."""

    def __init__(self) -> None:
        self.address, self.port = free_address(), 8082
        self.requests: list[tuple[str, dict, bytes]] = []
        self.answer = self.scores_everything_high
        self._runner: web.AppRunner | None = None

    @staticmethod
    def scores_everything_high(body: dict) -> web.Response:
        predictions = [{"anomaly": True, "score": 0.9, "confidence": 1.0} for _ in body["rows"]]
        return web.json_response({"predictions": predictions}, headers={"x-anomaly-revision": "rev-2"})

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, headers, body))
        answer = self.answer(json.loads(body))
        return await answer if asyncio.iscoroutine(answer) else answer

    def environment(self) -> dict[str, str]:
        return {
            "CPU_WATCH_GREEN_SERVICE_HOST": self.address,
            "CPU_WATCH_GREEN_SERVICE_PORT": str(self.port),
        }
