"""Find the source that `--data` names and read it."""

from argparse import Namespace
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pandas as pd

from anomaly_detector.train import record
from anomaly_detector.train.arguments import pairs
from anomaly_detector.train.builtin import read_builtin
from anomaly_detector.train.errors import DataError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.files import read_file
from anomaly_detector.train.frames import Place, to_table
from anomaly_detector.train.influx import InfluxSource, read_influx
from anomaly_detector.train.pods import read_pods
from anomaly_detector.train.table import Table

BUILTIN = "builtin:"


def read(options: Namespace, notes: FeatureNotes, *, on_row: Callable[[], None] = lambda: None) -> Table:
    """Return the data that the options name; `on_row` is called for each row of a live recording.

    Raises DataError and RegistryError as the sources do.
    """
    source: str = options.data
    if source == "host":
        return read_host(rows=options.rows, hertz=options.hertz, notes=notes, on_row=on_row)
    if source == "influx":
        return read_influx(_influx(options), notes=notes, missing=options.missing)
    if source == "pods":
        return read_pods(notes=notes, missing=options.missing)
    if source.startswith(BUILTIN):
        return read_builtin(source.removeprefix(BUILTIN), notes=notes)
    return read_file(Path(source), notes=notes, missing=options.missing)


def read_host(*, rows: int, hertz: float, notes: FeatureNotes, on_row: Callable[[], None]) -> Table:
    """Record this machine for `rows / hertz` seconds. Raises DataError for a rate that cannot be kept."""
    if not 0 < hertz <= record.MOST_HERTZ:
        raise DataError(f"--hertz {hertz:g}: expected over 0 and at most {record.MOST_HERTZ:g}")
    taken = []
    for row in islice(record.samples(hertz=hertz), rows):
        taken.append(row)
        on_row()
    frame = pd.DataFrame(taken, columns=["time", *record.COLUMNS])
    frame["time"] = frame["time"].map(lambda at: at.isoformat())
    return to_table(frame, Place(source="host"), notes=notes)


def _influx(options: Namespace) -> InfluxSource:
    if not options.influx_url:
        raise DataError("--influx-url: missing; give it or set INFLUXDB_URL")
    flux = options.flux
    if flux is None and not (options.influx_bucket and options.influx_measurement):
        raise DataError("--data influx: give --flux, or --influx-bucket and --influx-measurement")
    if flux is not None and flux.startswith("@"):
        try:
            flux = Path(flux[1:]).read_text()
        except OSError as error:
            raise DataError(f"--flux {flux}: {error.strerror}") from None
    return InfluxSource(
        url=options.influx_url,
        org=options.influx_org,
        flux=flux,
        bucket=options.influx_bucket or "",
        measurement=options.influx_measurement or "",
        fields=pairs("--influx-field", options.influx_field),
        start=options.influx_start,
        stop=options.influx_stop,
    )
