"""What the command line can say."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from anomaly_detector.train.environment import setting
from anomaly_detector.train.errors import DataError
from anomaly_detector.train.load import SCENARIOS

EPILOG = """\
exit codes: 0 done; 2 options or data cannot be used; 3 registered, but the alias stayed because the version is worse;
69 the registry or another server did not answer; 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of `anomaly-train`; without a command it trains."""
    whole = argparse.ArgumentParser(
        prog="anomaly-train",
        description="Train an anomaly detector and register it, with all that serving and watching it need.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="{train,record,adopt}")
    train = commands.add_parser("train", help="train and register a version; may be left out", epilog=EPILOG)
    _data(train)
    _recipe(train)
    _registry(train)
    _promotion(train)
    _output(train)
    adopt = commands.add_parser("adopt", help="give a registered model the bundle that it lacks, as a new version")
    _data(adopt)
    _registry(adopt)
    _output(adopt)
    which = adopt.add_mutually_exclusive_group(required=True)
    which.add_argument("--version", help="version to adopt")
    which.add_argument("--from-alias", metavar="ALIAS", help="adopt the version that has this alias")
    _record(commands.add_parser("record", help="record CPU, memory and network of this machine as CSV"))
    return whole


def _data(to: argparse.ArgumentParser) -> None:
    group = to.add_argument_group("data")
    group.add_argument(
        "--data", required=True, metavar="SOURCE", help="a CSV or Parquet file, host, influx, pods, or builtin:NAME"
    )
    group.add_argument("--features", type=Path, metavar="YAML", help="names, units and descriptions of the features")
    group.add_argument("--columns", metavar="A,B", help="features, in this order; default: all but time and label")
    group.add_argument("--time-column", help="default: time or timestamp, if there is one")
    group.add_argument("--label-column", help="1/0, true/false or -1/1; default: label or anomaly, if there is one")
    group.add_argument(
        "--missing", choices=("refuse", "drop"), default="refuse", help="rows with cells that are empty or infinite"
    )
    group.add_argument("--take", type=float, default=1.0, metavar="SHARE", help="use the first share of the rows only")
    group.add_argument("--rows", type=int, default=3000, help="of --data host: how many to record (default 3000)")
    group.add_argument("--hertz", type=float, default=5.0, help="of --data host: rows a second (default 5)")
    influx = to.add_argument_group("InfluxDB", "the token comes from INFLUXDB_TOKEN or INFLUXDB_TOKEN_FILE")
    influx.add_argument("--influx-url", default=setting("INFLUXDB_URL"))
    influx.add_argument("--influx-org", default=setting("INFLUXDB_ORG") or "")
    influx.add_argument("--influx-bucket")
    influx.add_argument("--influx-measurement")
    influx.add_argument(
        "--influx-field",
        action="append",
        default=[],
        metavar="FEATURE=FIELD",
        help="field (or column of --flux) of a feature, where they are not called the same; may be repeated",
    )
    influx.add_argument("--influx-start", default="-30d", metavar="TIME", help="such as -30d or an RFC 3339 time")
    influx.add_argument("--influx-stop", default="now()", metavar="TIME")
    influx.add_argument("--flux", metavar="QUERY", help="instead of bucket and measurement; @FILE reads it from a file")


def _recipe(to: argparse.ArgumentParser) -> None:
    group = to.add_argument_group("model")
    group.add_argument(
        "--like",
        metavar="VERSION",
        help="where options say nothing else: features, units, estimator, parameters, transformations and"
        " contamination of this version",
    )
    group.add_argument(
        "--estimator",
        help="IsolationForest (default), LocalOutlierFactor, OneClassSVM or EllipticEnvelope",
    )
    group.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="of the estimator; may be repeated"
    )
    group.add_argument("--contamination", type=float, help="share of anomalies (default 0.15)")
    group.add_argument(
        "--transform",
        action="append",
        default=[],
        metavar="KIND:FEATURE",
        help="boxcox, yeojohnson, standard or robust, before the estimator; may be repeated",
    )
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--holdout", type=float, default=0.2, help="share of the newest rows to judge on (default 0.2)")


def _registry(to: argparse.ArgumentParser) -> None:
    group = to.add_argument_group("registry")
    group.add_argument(
        "--model", default=setting("ANOMALY_REGISTERED_MODEL"), help="registered model ($ANOMALY_REGISTERED_MODEL)"
    )
    group.add_argument(
        "--tracking-uri", default=setting("MLFLOW_TRACKING_URI"), help="MLflow server ($MLFLOW_TRACKING_URI)"
    )
    group.add_argument("--experiment", help="default: named like the model")
    group.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="of run and version")
    group.add_argument("--description", default="", help="first sentence of the model card")
    group.add_argument(
        "--environment",
        default=setting("ANOMALY_NAMESPACE") or "development",
        help="recorded with the version (default $ANOMALY_NAMESPACE, else development)",
    )
    group.add_argument("--allow-pickle", action="store_true", help="load registered models that are pickles")
    drift = to.add_argument_group("drift calibration")
    drift.add_argument("--window", type=int, default=500, help="rows of a drift check (default 500)")
    drift.add_argument("--false-alarms-per-day", type=float, default=1.0)
    drift.add_argument("--rows-per-second", type=float, help="in service; default: as in the data")


def _promotion(to: argparse.ArgumentParser) -> None:
    group = to.add_argument_group("promotion")
    group.add_argument("--alias", help="move this alias to the new version, if that is not worse than the holder")
    group.add_argument("--force", action="store_true", help="move it even so")
    group.add_argument(
        "--compare-with",
        metavar="VERSION",
        help="compare with this version, such as the one that serves, not with the alias's holder",
    )
    group.add_argument("--event", metavar="JSON|FILE", help="the drift event that this training answers")
    group.add_argument("--trigger", help="recorded with the version (default: drift with --event, else manual)")
    group.add_argument(
        "--keep-reference",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="train on this share of the reference of the version that is compared with, too",
    )


def _output(to: argparse.ArgumentParser) -> None:
    group = to.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    group.add_argument("--no-plots", action="store_true", help="draw no SHAP plots (saves some seconds)")


def _record(to: argparse.ArgumentParser) -> None:
    to.add_argument("--out", type=Path, required=True, metavar="FILE")
    to.add_argument("--rows", type=int, default=3000, help="default 3000")
    to.add_argument("--hertz", type=float, default=5.0, help="rows a second (default 5)")
    to.add_argument("--scenario", choices=sorted(SCENARIOS), help="put this load on the machine meanwhile")
    to.add_argument("--seed", type=int, default=0, help="of the scenario")


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Read what was given of an option NAME=VALUE that may be repeated. Raises DataError."""
    for text in given:
        if "=" not in text.strip("="):
            raise DataError(f"{option} {text}: expected NAME=VALUE")
    return dict(text.split("=", 1) for text in given)
