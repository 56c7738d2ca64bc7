"""The command `anomaly-train`: train and register a version, adopt a registered one, record this machine."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from anomaly_detector.train import arguments, record
from anomaly_detector.train.errors import DataError, TrainingError
from anomaly_detector.train.termination import TOLD, leave_message

COMMANDS = ("train", "adopt", "record")
HELP = ("-h", "--help")
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] not in (*COMMANDS, *HELP):
        given.insert(0, "train")
    console = Console(stderr=True)
    options = arguments.parser().parse_args(given)
    try:
        sys.exit(_run(options, console))
    except TrainingError as error:
        leave_message(str(error))
        _tell(options, console, error)
        console.print(f"anomaly-train: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.print("anomaly-train: interrupted", style="red")
        sys.exit(INTERRUPTED)


def _run(options: Namespace, console: Console) -> int:
    if options.command == "record":
        return _record(options, console)
    # Imported late: MLflow and scikit-learn take seconds, --help and a wrong option should not.
    from anomaly_detector.train import command  # noqa: PLC0415 - as said

    carry_out = command.adopt if options.command == "adopt" else command.train
    result, code = carry_out(options, console)
    leave_message(json.dumps({name: result.get(name) for name in TOLD}))
    _tell(options, console, result)
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    return code


def _tell(options: Namespace, console: Console, ended: Mapping[str, Any] | TrainingError) -> None:
    """Tell InfluxDB what came of a training, if a bucket is named."""
    if options.command != "train" or not os.environ.get("ANOMALY_INFLUXDB_URL"):
        return
    from anomaly_detector.influx.client import InfluxError  # noqa: PLC0415 - seldom needed
    from anomaly_detector.train import telling  # noqa: PLC0415 - the same

    try:
        telling.tell(options, ended)
    except InfluxError as problem:
        words = f"anomaly-train: InfluxDB was not told: {problem}"
        console.print(words, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _record(options: Namespace, console: Console) -> int:
    if options.rows < 1 or not 0 < options.hertz <= record.MOST_HERTZ:
        raise DataError(f"--rows: expected 1 or more, --hertz: over 0 and at most {record.MOST_HERTZ:g}")
    out: Path = options.out
    try:
        with suppress(KeyboardInterrupt):  # what is recorded is kept
            record.record(out, rows=options.rows, hertz=options.hertz, scenario=options.scenario, seed=options.seed)
    except OSError as error:
        raise DataError(f"--out {out}: {error.strerror}") from None
    console.print(
        f"{out}: recorded; train on it with: anomaly-train --data {out} --model NAME", highlight=False, soft_wrap=True
    )
    return 0


if __name__ == "__main__":
    main()
