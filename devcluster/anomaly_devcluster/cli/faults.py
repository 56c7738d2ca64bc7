"""Make things fail, from the command line: requests and watches in the API server, the node, a pod's process."""

import argparse
import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import orjson

from anomaly_devcluster import state
from anomaly_devcluster.client import PODS, Access, ApiError, Client
from anomaly_devcluster.node.processes import CONTAINER_MARK
from anomaly_devcluster.state import UsageError

_SELECTORS = ("verb", "resource", "namespace", "object", "user")
_NODE = {"stop": signal.SIGSTOP, "resume": signal.SIGCONT, "kill": signal.SIGKILL}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `devcluster faults` takes."""
    kinds = parser.add_subparsers(required=True, metavar="FAULT", dest="fault")
    add = kinds.add_parser("add", help="delay, fail, time out or cut requests")
    add.add_argument("action", choices=("delay", "fail", "timeout", "reset"))
    for name in _SELECTORS:
        add.add_argument(f"--{name}", default="", help="only requests with this one")
    add.add_argument("--code", type=int, default=500, help="status of a failure: 409, 429, 500, 503 (%(default)s)")
    add.add_argument("--seconds", type=float, default=1, help="of a delay, a timeout, Retry-After (%(default)s)")
    add.add_argument("--count", type=int, help="how many requests (all)")
    add.add_argument("--probability", type=float, default=1, help="share of requests (%(default)s)")
    add.add_argument("--seed", type=int, default=0, help="of the share's random choice (%(default)s)")
    kinds.add_parser("list", help="show the faults in force")
    kinds.add_parser("clear", help="end all faults of the API server")
    for name, text in (("drop-watches", "cut watches"), ("freeze-watches", "keep watches open and silent")):
        kinds.add_parser(name, help=text).add_argument("--resource", default="", help="such as pods (all)")
    kinds.add_parser("compact", help="forget the history: watches from before get 410")
    node = kinds.add_parser("node", help="stop, resume or kill the node's process")
    node.add_argument("action", choices=tuple(_NODE))
    pod = kinds.add_parser("kill-pod", help="kill the processes of a pod's containers")
    pod.add_argument("pod", metavar="NAMESPACE/POD")


def run(options: argparse.Namespace) -> int:
    """Do it to a running cluster."""
    place, _ = state.running(options.name)
    if options.fault == "node":
        _signal_node(place, options.action)
        return 0
    try:
        answer = asyncio.run(_ask(place, options))
    except ApiError as error:
        raise UsageError(error.message) from None
    print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    return 0


def _signal_node(place: Path, action: str) -> None:
    try:
        os.kill(int((place / "node.pid").read_text()), _NODE[action])
    except (OSError, ValueError) as error:
        raise UsageError(f"the node has no process: {error}") from None


async def _ask(place: Path, options: argparse.Namespace) -> Any:
    async with Client(Access.from_kubeconfig(place / "kubeconfig"), "cli") as client:
        match options.fault:
            case "add":
                rule = {name: getattr(options, name) for name in _SELECTORS if name != "object"}
                rule |= {name: getattr(options, name) for name in ("action", "code", "seconds", "probability", "seed")}
                rule |= {"name": options.object, "count": options.count}
                return await client.request("POST", "/devcluster/faults", rule)
            case "list":
                return await client.request("GET", "/devcluster/faults")
            case "clear":
                return await client.request("DELETE", "/devcluster/faults")
            case "kill-pod":
                return await _kill_pod(client, options.pod)
            case action:
                body = {"resource": options.resource} if getattr(options, "resource", "") else {}
                return await client.request("POST", f"/devcluster/{action}", body)


async def _kill_pod(client: Client, pod: str) -> dict[str, int]:
    namespace, slash, name = pod.partition("/")
    if not slash:
        raise UsageError(f"{pod!r}: expected NAMESPACE/POD")
    body = await client.get(PODS, namespace, name)
    statuses = body.get("status", {}).get("containerStatuses") or []
    running = {status["containerID"] for status in statuses if "running" in status["state"]}
    return {"killed": await asyncio.to_thread(state.end_marked, CONTAINER_MARK, running)}
