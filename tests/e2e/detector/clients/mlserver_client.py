"""What MLServer's own codecs and types make of our answers; runs in its environment and prints JSON.

python mlserver_client.py URL
"""

import json
import sys
import urllib.request

import numpy as np
import pandas as pd
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec
from mlserver.types import InferenceResponse, MetadataModelResponse, MetadataServerResponse

NAMES = ("cpu_percent", "memory_percent", "network_mbps")
ROWS = np.array([[99.0, 95.0, 80.0], [40.0, 50.0, 5.0]])


def get(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def infer(url, request):
    body = request.model_dump_json(exclude_none=True).encode()
    path = f"{url}/v2/models/cpu-watch/infer"
    with urllib.request.urlopen(urllib.request.Request(path, body, {"Content-Type": "application/json"})) as answer:
        response = InferenceResponse.model_validate_json(answer.read())
    return {output.name: np.ravel(NumpyCodec.decode_output(output)).tolist() for output in response.outputs}


url = sys.argv[1]
said = {
    "numpy": infer(url, NumpyRequestCodec.encode_request(ROWS)),
    "pandas": infer(url, PandasCodec.encode_request(pd.DataFrame(ROWS, columns=list(NAMES)))),
    "server": MetadataServerResponse.model_validate_json(get(f"{url}/v2")).name,
    "model": MetadataModelResponse.model_validate_json(get(f"{url}/v2/models/cpu-watch")).name,
}
sys.stdout.write(json.dumps(said))
