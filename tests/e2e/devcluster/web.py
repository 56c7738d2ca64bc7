"""A small server to run in pods: it says who it is, and does what tests tell it to."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ready = True
    alive = True

    def do_GET(self):
        if self.path == "/ready":
            self.answer(200 if Handler.ready else 503, "")
        elif self.path == "/alive":
            self.answer(200 if Handler.alive else 500, "")
        elif self.path == "/env":
            self.answer(200, json.dumps(dict(os.environ)))
        elif self.path.startswith("/file"):
            self.answer(200, Path(self.path.removeprefix("/file")).read_text())
        else:
            self.answer(200, os.environ.get("HOSTNAME", ""))

    def do_POST(self):
        if self.path == "/unready":
            Handler.ready = False
        elif self.path == "/sick":
            Handler.alive = False
        elif self.path == "/burn":
            threading.Thread(target=burn, daemon=True).start()
        self.answer(200, "")
        if self.path == "/die":
            os._exit(3)

    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def burn():
    end = time.monotonic() + 8
    while time.monotonic() < end:
        pass


def main():
    server = Server((sys.argv[1], int(sys.argv[2])), Handler)
    # As a well-behaved server does, go on accepting until the service proxy has heard of the end.
    linger = float(os.environ.get("LINGER", "0.5"))
    signal.signal(signal.SIGTERM, lambda *_: threading.Timer(linger, server.shutdown).start())
    server.serve_forever()


main()
