"""The devcluster's API server alone, as a process of its own: no controllers, no node, no proxy.

So a thousand models with thousands of pods are objects and nothing else; what works beside it is the operator.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly_devcluster.api.server import ApiServer
from anomaly_devcluster.node.processes import die_with_parent

START_SECONDS = 30


@contextmanager
def api_server(folder: Path) -> Iterator[Path]:
    """Run the process for the time of a `with` block; yields the administrator's kubeconfig."""
    kubeconfig = folder / "kubeconfig"
    process = subprocess.Popen([sys.executable, __file__, str(kubeconfig)])
    try:
        deadline = time.monotonic() + START_SECONDS
        while not kubeconfig.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the API server did not start")
            time.sleep(0.02)
        yield kubeconfig
    finally:
        process.kill()  # nothing of it is worth an orderly end
        process.wait()


async def serve(kubeconfig: Path) -> None:
    async with ApiServer() as server:
        ready = kubeconfig.with_suffix(".new")
        ready.write_text(server.admin_kubeconfig())
        ready.rename(kubeconfig)
        await asyncio.Event().wait()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(serve(Path(sys.argv[1])))
