"""`anomaly-detector [--bind ADDRESS] fetch | serve`."""

import argparse
import asyncio
import logging
from collections.abc import Sequence

from anomaly_detector import logs
from anomaly_detector.settings import SettingsError, read_fetch_settings, read_settings
from anomaly_detector.train.termination import leave_message

log = logging.getLogger("anomaly_detector")

EXIT_USAGE, EXIT_REFUSED, EXIT_UNAVAILABLE = 64, 65, 69


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 64 wrong settings, 65 refused, 69 unavailable."""
    parser = argparse.ArgumentParser(prog="anomaly-detector", description=__doc__)
    parser.add_argument("--bind", help="address to listen on; default ANOMALY_BIND, else all interfaces")
    parser.add_argument("command", choices=("fetch", "serve"))
    given = parser.parse_args(arguments)
    logs.configure("info")
    try:
        return _fetch() if given.command == "fetch" else _serve(given.bind)
    except SettingsError as error:
        log.error("%s", error)  # noqa: TRY400 - the reason says it all
        leave_message(logs.masked(str(error)))
        return EXIT_USAGE


def _fetch() -> int:
    from anomaly_detector.fetch import run  # noqa: PLC0415 - the server does without it

    settings = read_fetch_settings()
    logs.configure(settings.log_level)
    return asyncio.run(run(settings))


def _serve(bind: str | None) -> int:
    settings = read_settings(bind=bind)
    logs.configure(settings.log_level)
    from anomaly_detector.loading import RefusedError, UnavailableError  # noqa: PLC0415 - settings are checked first
    from anomaly_detector.serve import serve  # noqa: PLC0415 - settings are checked before anything heavy

    try:
        asyncio.run(serve(settings))
    except RefusedError as error:
        log.error("refused: %s", error)  # noqa: TRY400 - the reason says it all
        return EXIT_REFUSED
    except UnavailableError as error:
        log.error("unavailable: %s", error)  # noqa: TRY400 - the reason says it all
        return EXIT_UNAVAILABLE
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
