"""Start, describe and end clusters."""

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
import uuid
from pathlib import Path

import aiohttp

from anomaly_devcluster import addresses, components, state, supervisor
from anomaly_devcluster.client import PODS, SERVICES, Access, ApiError, Client, Object
from anomaly_devcluster.components import Setup
from anomaly_devcluster.node import images
from anomaly_devcluster.node.container import Backoff
from anomaly_devcluster.state import Run, UsageError

_STOP_SECONDS = 10


def up(options: argparse.Namespace) -> int:
    """Start a cluster, or put images into the table of one that runs."""
    place = state.folder(options.name)
    try:
        table = dict(map(images.parse, options.image))
    except ValueError as error:
        raise UsageError(f"--image {error}") from None
    known = Run.read(place)
    if known is not None and known.alive:
        _load(place, table)
        print(f"Cluster {options.name} is running already: {known.server}")
        return 0
    if place.exists():
        ended = state.clean(place)
        print(f"Cleaned up after a run of {options.name} that had ended unexpectedly ({ended} processes).")
    if options.foreground:
        return _foreground(options, place, table)
    return _background(options, place)


def _load(place: Path, table: dict[str, list[str]]) -> None:
    for name, command in table.items():
        images.ImageTable(place / "images.json").load(name, command)


def _foreground(options: argparse.Namespace, place: Path, table: dict[str, list[str]]) -> int:
    if state.RUN_MARK not in os.environ:  # the mark must be in the environment from the first instruction on
        marked = os.environ | {state.RUN_MARK: uuid.uuid4().hex}
        os.execve(sys.executable, [sys.executable, "-m", "anomaly_devcluster", *sys.argv[1:]], marked)  # noqa: S606 - no shell is wanted
    place.mkdir(mode=0o700, parents=True)
    _load(place, table)
    ready = os.environ.pop(state.READY, None)

    def announce(server: str) -> None:
        if ready is not None:
            os.write(int(ready), f"{server}\n".encode())
            os.close(int(ready))
        else:
            print(_told(options.name, server), flush=True)

    supervisor.run(
        options.name,
        announce,
        backoff=options.backoff_seconds,
        autoscaler=options.autoscaler_seconds,
        die_with_parent=options.die_with_parent,
    )
    return 0


def _background(options: argparse.Namespace, place: Path) -> int:
    started = time.monotonic()
    env = os.environ | {state.RUN_MARK: uuid.uuid4().hex}
    asked = [f"--name={options.name}", f"--backoff-seconds={options.backoff_seconds}"]
    asked += [f"--autoscaler-seconds={options.autoscaler_seconds}", *(f"--image={image}" for image in options.image)]
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = place.with_suffix(".log")
    with log.open("wb") as output:
        process, server = state.launch(asked, env, output, session=not options.die_with_parent)
    if not server:
        process.kill()
        state.clean(place)
        print(f"devcluster: the cluster did not start; the end of {log}:", file=sys.stderr)
        print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), file=sys.stderr)
        return 1
    process.returncode = 0  # it goes on without us
    print(_told(options.name, server, time.monotonic() - started))
    return 0


def _told(name: str, server: str, seconds: float | None = None) -> str:
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    option = "" if name == state.DEFAULT_NAME else f" --name {name}"
    return (
        f"Cluster {name} is ready{took}: {server}\n"
        f"  export KUBECONFIG={state.folder(name) / 'kubeconfig'}\n"
        f"  end it with: devcluster down{option}"
    )


def down(options: argparse.Namespace) -> int:
    """End a cluster; what a crashed one left behind is removed as well, and the log of one that never started."""
    place = state.folder(options.name)
    place.with_suffix(".log").unlink(missing_ok=True)
    run = Run.read(place)
    if run is None and not place.exists():
        print(f"No cluster {options.name} is running.")
        return 0
    if run is not None and run.alive:
        os.kill(run.pid, signal.SIGTERM)
        if not state.wait_until_gone(run.pid, _STOP_SECONDS):
            os.kill(run.pid, signal.SIGKILL)
            state.wait_until_gone(run.pid, 1)
    state.clean(place)
    print(f"Cluster {options.name} has ended.")
    return 0


def kubeconfig(options: argparse.Namespace) -> int:
    """Print the path of the kubeconfig."""
    place, _ = state.running(options.name)
    print(place / "kubeconfig")
    return 0


def load_image(options: argparse.Namespace) -> int:
    """Put one image into the table; pods that wait for it start at once."""
    place, _ = state.running(options.name)
    try:
        name, command = images.parse(options.image)
    except ValueError as error:
        raise UsageError(str(error)) from None
    _load(place, {name: command})
    print(f"{name}: {' '.join(command)}")
    return 0


def status(options: argparse.Namespace) -> int:
    """Print what runs, and where Services are reached."""
    place, run = state.running(options.name)
    print(f"cluster       {run.name} ({run.control_plane}), process {run.pid}")
    print(f"server        {run.server}")
    print(f"kubeconfig    {place / 'kubeconfig'}")
    for name, command in images.ImageTable(place / "images.json").read().items():
        print(f"image         {name} = {' '.join(command)}")
    try:
        pods, services = asyncio.run(_contents(place))
    except (ApiError, aiohttp.ClientError, OSError) as error:
        print(f"devcluster: the API server does not answer: {error}", file=sys.stderr)
        return 1
    phases = [pod.get("status", {}).get("phase", "Pending") for pod in pods]
    print("pods          " + (", ".join(f"{phases.count(p)} {p}" for p in sorted(set(phases))) or "none"))
    for service in services:
        metadata, cluster_ip = service["metadata"], service["spec"].get("clusterIP")
        if cluster_ip not in (None, "", "None"):
            host = addresses.service_address(cluster_ip, run.slot)
            places = ", ".join(f"{host}:{port['port']}" for port in service["spec"].get("ports") or [])
            print(f"service       {metadata['namespace']}/{metadata['name']} at {places}")
    return 0


async def _contents(place: Path) -> tuple[list[Object], list[Object]]:
    async with Client(Access.from_kubeconfig(place / "kubeconfig"), "cli") as client:
        return (await client.list(PODS))["items"], (await client.list(SERVICES))["items"]


def component(options: argparse.Namespace) -> int:
    """Run one component again; called by the supervisor, with what `supervisor` passes."""
    name, descriptor, folder, slot, real, backoff, autoscaler = options.values
    setup = Setup(Path(folder), int(slot), real == "1", Backoff(first=float(backoff)), float(autoscaler))
    components.run(name, setup, socket.socket(fileno=int(descriptor)))
    return 0
