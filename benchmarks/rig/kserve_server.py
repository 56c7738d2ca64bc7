"""The model in KServe's Python server, as its scikit-learn server does it; runs in KServe's environment.

python kserve_server.py MODEL.joblib PORT
"""

import sys
from typing import Any

import joblib
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Forest(Model):
    def __init__(self, path: str) -> None:
        super().__init__("forest")
        self.model = joblib.load(path)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None) -> Any:  # noqa: ARG002 - KServe calls it with both
        return get_predict_response(payload, self.model.predict(get_predict_input(payload)), self.name)


ModelServer(http_port=int(sys.argv[2]), enable_grpc=False).start([Forest(sys.argv[1])])
