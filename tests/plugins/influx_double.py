"""A double of InfluxDB 2: no package carries a real one.

It keeps points of line protocol as InfluxDB does (the same series and time is the same point) and answers the Flux
that the detector asks in: a range, a measurement, tags and fields, pivoted or not. Real Flux it does not understand.
"""

import asyncio
import re
import threading
from collections import defaultdict
from contextlib import contextmanager

from aiohttp import web

from anomaly_detector.source.rows import nanoseconds, rfc3339

# In names a backslash escapes a separator and else is itself; in strings it escapes quotes and backslashes.
_NAME = r"(?:[^,= \n]|(?<=\\)[,= ])+"
_FIELD = rf'{_NAME}=(?:"(?:[^"\\]|\\.)*"|[^", \n]+)'
_LINE = re.compile(
    rf"((?:[^, \n]|(?<=\\)[, ])+)((?:,{_NAME}={_NAME})*) ({_FIELD}(?:,{_FIELD})*) (\d+)(?:\n|$)", re.DOTALL
)
_TAGS = re.compile(rf",({_NAME})=({_NAME})")
_FIELDS = re.compile(rf"({_NAME})=(\"(?:[^\"\\]|\\.)*\"|[^\", \n]+)(?:,|$)", re.DOTALL)


def _name(text):
    return re.sub(r"\\([,= ])", r"\1", text)


def _value(text):
    if text[0] == '"':
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    return int(text[:-1]) if text.endswith("i") else float(text)


def parse_lines(text):
    """Yield measurement, tags, fields and time of each line; a string may go on over several."""
    at = 0
    while at < len(text):
        found = _LINE.match(text, at)
        if found is None:
            raise ValueError(f"not line protocol: {text[at : at + 200]!r}")
        at = found.end()
        name, tags, fields, time = found.groups()
        yield (
            _name(name),
            {_name(key): _name(value) for key, value in _TAGS.findall(tags)},
            {_name(key): _value(value) for key, value in _FIELDS.findall(fields)},
            int(time),
        )


def parse_line(text):
    """Return measurement, tags, fields and time of one line."""
    (found,) = parse_lines(text)
    return found


class InfluxDouble:
    """Listens on `address`; `points` maps (measurement, tags, time) to fields."""

    def __init__(self, address, port=8086):
        self.address, self.port, self.url = address, port, f"http://{address}:{port}"
        self.points, self.writes = {}, defaultdict(int)
        self.status, self.queries, self.authorizations = 200, [], set()
        self.judge = lambda _: 204
        """Say with which status a write of these points is answered."""
        self.hold = asyncio.Event()
        self.hold.set()

    async def __aenter__(self):
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/api/v2/write", self._write)
        app.router.add_post("/api/v2/query", self._query)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://{self.address}:{self.port}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    def add(self, measurement, tags, fields, time):
        key = (measurement, frozenset(tags.items()), time)
        self.points.setdefault(key, {}).update(fields)
        self.writes[key] += 1

    def of(self, measurement):
        """Return the points of a measurement: fields by tags and time."""
        points = self.points.copy()  # at once: a test may ask from another thread than the one that writes
        return {(tags, time): fields for (name, tags, time), fields in points.items() if name == measurement}

    def _refused(self, request):
        self.authorizations.add(request.headers.get("authorization"))
        return None if self.status == 200 else web.Response(status=self.status)

    async def _write(self, request):
        text = (await request.read()).decode()
        if (refused := self._refused(request)) is not None:
            return refused
        points = list(parse_lines(text))
        if (status := self.judge(points)) != 204:
            return web.Response(status=status)
        for point in points:
            self.add(*point)
        return web.Response(status=204)

    async def _query(self, request):
        query = (await request.json())["query"]
        self.queries.append(query)
        await self.hold.wait()
        if (refused := self._refused(request)) is not None:
            return refused
        return web.Response(text=self._answer(query), content_type="application/csv")

    def _answer(self, query):
        start, stop = (nanoseconds(at) for at in re.search(r"range\(start: (\S+), stop: (\S+)\)", query).groups())
        measurement = re.search(r'r\._measurement == "([^"]*)"', query)[1]
        fields = re.findall(r'r\._field == "([^"]*)"', query)
        wanted = dict(re.findall(r'r\["([^"]*)"\] == "([^"]*)"', query))
        series = defaultdict(list)
        for (name, tags, time), values in sorted(self.points.items(), key=lambda item: item[0][2]):
            kept = {field: values[field] for field in fields if field in values}
            if name == measurement and start <= time < stop and kept and wanted.items() <= dict(tags).items():
                series[tags].append((time, kept))
        return "\r\n".join(
            line
            for number, (tags, points) in enumerate(series.items())
            for line in self._table(number, measurement, dict(tags), fields, points, pivoted="pivot" in query)
        )

    @staticmethod
    def _table(number, measurement, tags, fields, points, *, pivoted):
        names = fields if pivoted else ["_value", "_field"]
        group = ["false", "false", "false", *["true"] * (len(tags) + 1), *(["false"] * len(names))]
        yield ",".join(["#group", *group])
        yield ",".join(["", "result", "table", "_time", "_measurement", *tags, *names])
        for time, values in points:
            cells = [values.get(field, "") for field in fields] if pivoted else [values[fields[0]], fields[0]]
            yield ",".join(["", "_result", str(number), rfc3339(time), measurement, *tags.values(), *map(str, cells)])
        yield ""


@contextmanager
def in_background(address="127.0.0.1"):
    """Run a double in a thread of its own, at a free port, for tests that have no event loop."""
    loop, double = asyncio.new_event_loop(), InfluxDouble(address, port=0)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(double.__aenter__(), loop).result(10)
    try:
        yield double
    finally:
        asyncio.run_coroutine_threadsafe(double.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
