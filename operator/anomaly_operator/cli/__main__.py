"""`kubectl anomaly`: read the arguments, ask, print."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

from anomaly_operator.cli import memory, views
from anomaly_operator.cli.cluster import Cluster
from anomaly_operator.cli.commands import VERBS, move_alias_back, send
from anomaly_operator.cli.errors import CliError
from anomaly_operator.cli.explaining import explain, read_rows, told
from anomaly_operator.cli.lint import lint
from anomaly_operator.cli.registry import STAGES, move_alias, move_stage
from anomaly_operator.domain.codec import to_json
from anomaly_operator.domain.records import HistoryEntry
from anomaly_operator.domain.times import parse_time, rfc3339

REFUSED = 1
Add = Callable[..., argparse.ArgumentParser]
"""Add a command: name, function, words for --help, and whether it takes NAME and -o."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused or wrong, 2 usage, 3 no answer in time."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except CliError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.code
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kubectl anomaly", description="See and steer AnomalyModels.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--kubeconfig", help="kubeconfig file; default KUBECONFIG, then ~/.kube/config")
    shared.add_argument("--context", help="context of the kubeconfig")
    shared.add_argument("-n", "--namespace", help="namespace; default that of the context")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], words: str, *, on_model: bool = True,
            output: bool = False) -> argparse.ArgumentParser:  # fmt: skip
        command = commands.add_parser(name, parents=[shared], help=words, description=words)
        command.set_defaults(run=run)
        if on_model:
            command.add_argument("name", metavar="NAME", help="name of the AnomalyModel")
        if output:
            command.add_argument("-o", "--output", choices=["text", "json"], default="text", help="how to print")
        return command

    _add_reading(add)
    _add_steering(add)
    _add_others(add)
    return parser


def _add_reading(add: Add) -> None:
    listing = add("list", _list, "List AnomalyModels.", on_model=False, output=True)
    listing.add_argument("-A", "--all-namespaces", action="store_true", help="in all namespaces")
    add("status", _status, "Show tracks, report, conditions, quarantine of one model.", output=True)
    add("why", _why, "Say in sentences why a model is as it is.")
    history = add("history", _history, "Show the decisions of one model, newest first.", output=True)
    history.add_argument(
        "--verify", action="store_true", help="check hash chain, anchor and the registry's tags; exit 1 if they differ"
    )
    history.add_argument("--tracking-uri", help="registry; default spec.model.trackingUri, MLFLOW_TRACKING_URI")
    history.add_argument("--no-registry", action="store_true", help="only what status holds")
    history.add_argument("--at", metavar="TIME", type=_time, help="what served at this time (RFC 3339)?")
    explaining = add("explain", _explain, "Explain rows by the model that serves.", output=True)
    explaining.add_argument("--row", action="append", required=True, metavar="JSON", help="by name or by position")
    explaining.add_argument("--url", help="the users' Service; default: through the API server's proxy")


def _add_steering(add: Add) -> None:
    for verb, words in VERBS.items():
        command = add(verb, _command, words, output=True)
        command.set_defaults(verb=verb, to=None, registry=False)
        command.add_argument(
            "--wait", type=float, default=10.0, metavar="SECONDS", help="wait this long for the answer; 0: do not wait"
        )
        if verb == "rollback":
            command.add_argument("--to", metavar="REVISION", help="revision to go back to; default the previous one")
            command.add_argument(
                "--registry", action="store_true", help="then move the alias too, with your own credentials"
            )
            command.add_argument("--tracking-uri", help="registry; default spec.model.trackingUri, MLFLOW_TRACKING_URI")


def _add_others(add: Add) -> None:
    promote = add(
        "promote-version",
        _promote_version,
        "Move an alias or stage in the registry; the rollout follows.",
        on_model=False,
    )
    promote.add_argument("model", metavar="MODEL", help="registered model")
    promote.add_argument("version", metavar="VERSION", help="version to promote")
    where = promote.add_mutually_exclusive_group(required=True)
    where.add_argument("--alias", help="alias to move, e.g. champion")
    where.add_argument("--stage", choices=STAGES, help="of a registry that still uses stages; its version is archived")
    promote.add_argument("--tracking-uri", help="registry; default MLFLOW_TRACKING_URI")
    check = add("lint", _lint, "Check manifests without a cluster.", on_model=False)
    check.add_argument("files", metavar="FILE", nargs="+", type=Path)
    add("version", _version, "Show the versions of this program and of the cluster.", on_model=False)


def _time(text: str) -> float:
    at = parse_time(text)
    if at is None:
        raise argparse.ArgumentTypeError(
            f"expected an RFC 3339 time with zone, such as 2026-03-01T12:00:00Z, got {text!r}"
        )
    return at


def _cluster(arguments: argparse.Namespace) -> Cluster:
    return Cluster(kubeconfig=arguments.kubeconfig, context=arguments.context, namespace=arguments.namespace)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _list(arguments: argparse.Namespace) -> int:
    models = _cluster(arguments).models(everywhere=arguments.all_namespaces)
    text = views.listing(models, time.time(), everywhere=arguments.all_namespaces)
    _print(_json(models) if arguments.output == "json" else text)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    model = _cluster(arguments).model(arguments.name)
    _print(_json(model) if arguments.output == "json" else views.overview(model, time.time()))
    return 0


def _why(arguments: argparse.Namespace) -> int:
    _print(views.why(_cluster(arguments).model(arguments.name)))
    return 0


def _history(arguments: argparse.Namespace) -> int:
    ask = not arguments.no_registry
    found = memory.recall(_cluster(arguments).model(arguments.name), arguments.tracking_uri, ask_registry=ask)
    if not arguments.verify:
        memory.warn(found, ask_registry=ask)
    if arguments.at is not None:
        _served_at(arguments, memory.entries(found))
    else:
        decisions = found.decisions()
        _print(_json([d.to_json() for d in decisions]) if arguments.output == "json" else views.history(decisions))
    if arguments.verify:
        memory.check(found, ask_registry=ask)
    return 0


def _served_at(arguments: argparse.Namespace, entries: Sequence[HistoryEntry]) -> None:
    found = views.served_at(entries, arguments.at)
    if found is None:
        raise CliError(f"the history of {arguments.name} does not reach back to {rfc3339(arguments.at)}")
    since = rfc3339(found.ended_at)
    if arguments.output == "json":
        _print(_json({"revision": found.active, "version": found.active_version, "since": since}))
    else:
        at, version = rfc3339(arguments.at), found.active_version
        _print(f"At {at} version {version} served (revision {found.active}), since {since}.")


def _explain(arguments: argparse.Namespace) -> int:
    answer = explain(_cluster(arguments), arguments.name, read_rows(arguments.row), arguments.url)
    _print(_json(answer) if arguments.output == "json" else told(answer))
    return 0


def _command(arguments: argparse.Namespace) -> int:
    cluster = _cluster(arguments)
    before = cluster.model(arguments.name)
    if arguments.registry and (arguments.wait <= 0 or "alias" not in before["spec"]["model"]):
        raise CliError("--registry needs a model that follows an alias, and a --wait that is not 0", 2)
    answer = send(cluster, arguments.name, arguments.verb, revision=arguments.to, wait=arguments.wait)
    if answer is None:
        _print(f"{arguments.verb}: asked")
        return 0
    words = f"{arguments.verb}: {answer.outcome.lower()}" + (f": {answer.message}" if answer.message else "")
    _print(_json(to_json(answer)) if arguments.output == "json" else words)
    if answer.outcome != "Accepted":
        return REFUSED
    if arguments.registry:
        moved = move_alias_back(cluster, before, arguments.tracking_uri, wait=arguments.wait)
        sys.stderr.write(f"{moved}\n")
    return 0


def _promote_version(arguments: argparse.Namespace) -> int:
    if arguments.stage:
        move_stage(arguments.tracking_uri, arguments.model, arguments.stage, arguments.version)
        _print(f"{arguments.model}: version {arguments.version} is in stage {arguments.stage}")
        return 0
    before = move_alias(arguments.tracking_uri, arguments.model, arguments.alias, arguments.version)
    _print(
        f"{arguments.model}: alias {arguments.alias} moved from {before or 'nowhere'} to version {arguments.version}"
    )
    return 0


def _lint(arguments: argparse.Namespace) -> int:
    checked, problems = 0, []
    for path in arguments.files:
        count, found = lint(path)
        checked += count
        problems += found
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    _print(f"{checked} AnomalyModels checked, {len(problems)} problems")
    return REFUSED if problems else 0


def _version(arguments: argparse.Namespace) -> int:
    _print(f"kubectl-anomaly {installed_version('anomaly-operator')}")
    _print(f"Kubernetes {_cluster(arguments).server_version()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
