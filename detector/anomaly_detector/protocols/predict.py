"""`POST /predict` and `POST /explain`: our own protocol, for people and programs that want the explanation."""

import json
from typing import Any

from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.protocols import Answer, Contract, Payload, Query, Scored
from anomaly_detector.protocols.rows import by_name, by_position, dumps, kind, loads, reorder

_KEYS = frozenset({"rows", "features"})


class Predict:
    """Rows by position, by name, or by position with the names beside them."""

    name = "predict"
    explains = "anomalies"

    def parse(self, payload: Payload, contract: Contract) -> Query:
        """Return the rows of `{"rows": ...}` or `{"features": [...], "rows": ...}`."""
        if payload.content_type != "application/json":
            raise bad_input(
                "UnsupportedMediaType",
                "content-type",
                expected="application/json",
                received=payload.content_type,
                status=415,
            )
        body = loads(payload.body)
        if type(body) is not dict:
            raise bad_input("WrongType", "body", expected='an object {"rows": [...]}', received=kind(body))
        if not body.keys() <= _KEYS:
            unknown = min(body.keys() - _KEYS)
            raise bad_input("UnknownField", unknown[:80], expected="rows, features", received="another field")
        rows = body.get("rows")
        if "features" in body:
            matrix = reorder(rows, body["features"], contract, "features", strict=True)
        elif type(rows) is list and rows and type(rows[0]) is dict:
            matrix = by_name(rows, contract)
        else:
            matrix = by_position(rows, contract)
        return Query(rows=matrix, explain="all" if self.explains == "all" else "anomalies")

    def render(self, query: Query, scored: Scored, contract: Contract) -> Answer:  # noqa: ARG002 - Codec
        """Return one prediction a row; anomalies carry an id, the first of them an explanation."""
        labels, scores = scored.anomalous.tolist(), scored.scores.tolist()
        confidence = [None] * len(scores) if scored.confidence is None else scored.confidence.tolist()
        predictions: list[dict[str, Any]] = [
            {"anomaly": label, "score": score, "confidence": sure}
            for label, score, sure in zip(labels, scores, confidence, strict=True)
        ]
        for row, key in scored.ids.items():
            predictions[row]["id"] = key
        for row, explanation in scored.explanations.items():
            predictions[row]["explanation"] = explanation
        return Answer(body=dumps({"model": contract.model, "version": contract.version, "predictions": predictions}))

    def refuse(self, problem: Problem) -> Answer:
        """Return the problem with its field, what was expected and what was received."""
        return Answer(status=problem.status, body=json.dumps(problem.to_json()).encode())


class Explain(Predict):
    """The same for rows that are all to be explained."""

    name = "explain"
    explains = "all"
