"""TLS in front of a plain HTTP server, as an ingress has it; it may turn a token into the login it stands for."""

import asyncio
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from anomaly_devcluster.certificates import Authority

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "content-encoding"}


@dataclass(frozen=True)
class Front:
    """A running front."""

    uri: str
    ca: Path
    """Certificate of the authority that vouches for it."""


@contextmanager
def tls_front(folder, target, *, tokens=None):
    """Pass requests on to `target` while the body runs; `tokens` maps a bearer token to the login it stands for."""
    authority = Authority.create("tests")
    pair = authority.server(["127.0.0.1"])
    for name, text in (("ca.crt", authority.pair.certificate), ("tls.crt", pair.certificate), ("tls.key", pair.key)):
        (folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    loop, ready, ended, found = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), []
    serving = _serve(target, tokens or {}, context, ended, lambda port: (found.append(port), ready.set()))
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
    thread.start()
    try:
        assert ready.wait(30), "the front does not listen"
        yield Front(uri=f"https://127.0.0.1:{found[0]}", ca=folder / "ca.crt")
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


async def _serve(target, tokens, context, ended, listening):
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def pass_on(request):
            headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
            token = headers.get("Authorization", "").removeprefix("Bearer ")
            if token in tokens:
                headers["Authorization"] = aiohttp.encode_basic_auth(*tokens[token])
            url = target + request.raw_path
            body = await request.read()
            async with session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        application = web.Application(client_max_size=2**28)
        application.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        listening(runner.addresses[0][1])
        await ended.wait()
        await runner.cleanup()
