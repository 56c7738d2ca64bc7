"""The least that a reaction can take: one watch, one PATCH, nothing else. What the operator is measured against.

    python bare_loop.py KUBECONFIG

Watches the pods of all models; as soon as one bears an error rate over 0.1, its model's Service is patched to blue.
It decides nothing, knows nothing but that pod, and leaves no record.
"""

import asyncio
import sys
from pathlib import Path

import aiohttp
import orjson
from http_api import MERGE, api

from anomaly_detector.report import ERROR_RATE
from anomaly_devcluster.client import PODS, SERVICES
from anomaly_devcluster.node.processes import die_with_parent
from anomaly_operator.domain.names import MODEL_LABEL, selector


async def run(kubeconfig: Path) -> None:
    done = set()
    async with api(kubeconfig) as server:
        listed = await server.done("GET", PODS.path(), labelSelector=MODEL_LABEL)
        # What was over the limit before is left alone.
        done = {pod["metadata"]["name"] for pod in listed["items"] if over(pod)}
        query = {"watch": "1", "labelSelector": MODEL_LABEL, "resourceVersion": listed["metadata"]["resourceVersion"]}
        timeout = aiohttp.ClientTimeout(total=None)
        async with server.session.get(PODS.path(), params=query, timeout=timeout) as events:
            print("watching", flush=True)
            async for line in events.content:
                pod = orjson.loads(line)["object"]
                metadata = pod["metadata"]
                if metadata["name"] in done or not over(pod):
                    continue
                done.add(metadata["name"])
                model = metadata["labels"][MODEL_LABEL]
                change = {"spec": {"selector": selector(model, "blue")}}
                await server.done("PATCH", SERVICES.path(metadata["namespace"], model), change, media=MERGE)


def over(pod: dict[str, dict[str, dict[str, str]]]) -> bool:
    return float((pod["metadata"].get("annotations") or {}).get(ERROR_RATE, 0)) > 0.1


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(run(Path(sys.argv[1])))
