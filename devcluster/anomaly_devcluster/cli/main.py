"""The arguments of `devcluster`, and what each command does."""

import argparse
import sys
from collections.abc import Callable, Sequence

from anomaly_devcluster import state
from anomaly_devcluster.cli import faults, lifecycle
from anomaly_devcluster.state import UsageError

_USAGE_STATUS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 1 for what failed, 2 for what was asked wrongly."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.run
    try:
        return command(parsed)
    except UsageError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return _USAGE_STATUS
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="devcluster",
        description="A Kubernetes to try and test on: no containers, no root; pods are processes of this machine.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--name", default=state.DEFAULT_NAME, help="name of the cluster (%(default)s)")
        sub.set_defaults(run=run)
        return sub

    up = command("up", lifecycle.up, "Start a cluster; returns when it is ready.")
    up.add_argument("--image", action="append", default=[], metavar="NAME=COMMAND", help="put an image into the table")
    up.add_argument("--foreground", action="store_true", help="stay in the foreground; Ctrl-C ends the cluster")
    up.add_argument("--die-with-parent", action="store_true", help="end when the process that started it ends")
    up.add_argument("--backoff-seconds", type=float, default=10, help="first back-off of a crash loop (%(default)s)")
    up.add_argument("--autoscaler-seconds", type=float, default=15, help="period of the autoscaler (%(default)s)")
    command("down", lifecycle.down, "End a cluster and remove everything it kept.")
    command("status", lifecycle.status, "Say what runs and where Services are reached.")
    command("kubeconfig", lifecycle.kubeconfig, "Print the path of the kubeconfig.")
    load = command("load-image", lifecycle.load_image, "Let an image's name stand for a command line.")
    load.add_argument("image", metavar="NAME=COMMAND", help="such as web:1='python3 -m http.server --bind $(POD_IP)'")
    faults.add_arguments(command("faults", faults.run, "Make things fail, for tests."))
    component = commands.add_parser("component")
    component.add_argument("values", nargs="*")
    component.set_defaults(run=lifecycle.component)
    return parser
