"""One JSON object a line on stderr, as log collectors read it: warnings and what nobody caught, too."""

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_LOGIN = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")


class JsonFormatter(logging.Formatter):
    """Write a record's time, level, logger, message, `extra` fields and exception; logins in URLs are masked."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return masked(json.dumps(line, default=str))


def masked(text: str) -> str:
    """Return the text without the logins that its URLs hold."""
    return _LOGIN.sub("***", text)


def configure(level: str) -> None:
    """Send everything from `level` up to stderr as JSON lines, whoever says it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda said: _uncaught(said.exc_type, said.exc_value, said.exc_traceback)
    threading.excepthook = lambda said: _uncaught(said.exc_type, said.exc_value, said.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if not issubclass(kind, SystemExit):  # a thread that ends itself
        log.critical("an error that nobody caught: %s", kind.__name__, exc_info=(kind, error or kind(), trace))
