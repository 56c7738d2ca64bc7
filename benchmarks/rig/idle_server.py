"""A server that does nothing but answer: the yardstick of a load generator.

python idle_server.py ADDRESS PORT
"""

import asyncio
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Idle(asyncio.Protocol):
    """Answer as soon as the last byte of a request is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            head, _, body = data.partition(b"\r\n\r\n")
            self.missing = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            data = body
        self.missing -= len(data)
        if self.missing <= 0:
            self.transport.write(ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Idle, sys.argv[1], int(sys.argv[2]))
    await server.serve_forever()


asyncio.run(main())
