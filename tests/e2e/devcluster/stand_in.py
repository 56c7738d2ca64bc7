"""Stand in for the programs of a real control plane: understand their flags, and serve what `devcluster` emulates.

It gives out cluster addresses that no process here can bind, and knows the administrator by a certificate, as the real
one does; so it tries everything around the programs, but not the programs.
"""

import asyncio
import ipaddress
import ssl
import sys

from anomaly_devcluster.api.server import ApiServer

FLAGS = dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[1:])


class StandIn(ApiServer):
    """An API server with the certificates that its flags name."""

    def _context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(FLAGS["client-ca-file"])
        context.load_cert_chain(FLAGS["tls-cert-file"], FLAGS["tls-private-key-file"])
        return context


async def main():
    if "data-dir" in FLAGS:  # etcd
        await asyncio.Event().wait()
    services = ipaddress.IPv4Network(FLAGS["service-cluster-ip-range"])
    async with StandIn(bind=FLAGS["bind-address"], port=int(FLAGS["secure-port"]), services=services):
        await asyncio.Event().wait()


asyncio.run(main())
