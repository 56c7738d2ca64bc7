"""MLflow's own downloader, in a process of its own: `python -m anomaly_detector.downloader SOURCE FOLDER`.

Prints where the artifact lies. What goes wrong is one line on standard error, with what MLflow keeps to itself: for a
`runs:/` source it says that the path may be wrong, whatever the store's own words were.
"""

import logging
import sys

MOST = 500


class Causes(logging.Handler):
    """Collect the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a record, if it has one."""
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


def main(source: str, folder: str) -> str | None:
    """Bring an artifact into a folder; return why that could not be done."""
    from mlflow import artifacts  # noqa: PLC0415 - takes seconds

    causes, log = Causes(), logging.getLogger("mlflow")
    log.handlers, log.propagate = [causes], False
    log.setLevel(logging.DEBUG)
    try:
        sys.stdout.write(artifacts.download_artifacts(artifact_uri=source, dst_path=folder) + "\n")
    except Exception as error:  # noqa: BLE001 - a store's library raises what it likes
        said = dict.fromkeys(f"{type(one).__name__}: {one}" for one in (*causes.errors, error))
        return " ".join("; ".join(said).split())[:MOST]
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
