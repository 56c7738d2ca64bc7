"""An API server that takes every report and keeps none; over TLS, as pods insist on it.

    python report_sink.py FOLDER ADDRESS PORT

writes `ca.crt` and `token` into FOLDER, then serves. For measuring what reporting costs a pod; whether reports are
right is for the tests, against a real API server.
"""

import asyncio
import ipaddress
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path, address: str) -> ssl.SSLContext:
    """Make a certificate for an address, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "report sink")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private + pem)
    (folder / "token").write_text("token")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "key.pem")
    (folder / "ca.crt").write_bytes(pem)
    return context


async def take(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"kind": "Pod", "apiVersion": "v1"})


async def main() -> None:
    folder, address, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, port, ssl_context=certificate(folder, address)).start()
    await asyncio.Event().wait()


asyncio.run(main())
