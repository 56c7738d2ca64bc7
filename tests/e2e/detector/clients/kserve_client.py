"""What KServe's own client makes of our answers; runs in its environment and prints JSON.

python kserve_client.py URL
"""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

NAMES = ("cpu_percent", "memory_percent", "network_mbps")
ROWS = np.array([[99.0, 95.0, 80.0], [40.0, 50.0, 5.0]])


def outputs(response):
    return {output.name: np.ravel(output.as_numpy()).tolist() for output in response.outputs}


async def main(url):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    whole = InferInput("rows", list(ROWS.shape), "FP64")
    whole.set_data_from_numpy(ROWS, binary_data=True)
    columns = []
    for i, name in enumerate(NAMES):
        column = InferInput(name, [2, 1], "FP64")
        column.set_data_from_numpy(ROWS[:, i : i + 1], binary_data=False)
        columns.append(column)
    binary = await client.infer(url, InferRequest("cpu-watch", [whole], request_id="k-1"), model_name="cpu-watch")
    as_json = await client.infer(url, InferRequest("cpu-watch", columns), model_name="cpu-watch")
    try:
        await client.infer(url, InferRequest("cpu-watch", columns[:2]), model_name="cpu-watch")
    except httpx.HTTPStatusError as error:
        refused = str(error)
    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "modelReady": await client.is_model_ready(url, "cpu-watch"),
        "id": binary.id,
        "binary": outputs(binary),
        "json": outputs(as_json),
        "refused": refused,
    }


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
