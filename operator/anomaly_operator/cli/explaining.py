"""`kubectl anomaly explain`: why the model that serves calls a row what it calls it."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

from anomaly_operator.cli.cluster import Cluster
from anomaly_operator.cli.errors import CliError
from anomaly_operator.cli.tables import number, percent, table
from anomaly_operator.domain.records import Json

TIMEOUT = 30.0


def read_rows(texts: Iterable[str]) -> list[Any]:
    """Read rows as a person types them: `{"cpu_percent": 97, ...}` or `[97, 40, 3]`; raises CliError naming the row."""
    rows = []
    for text in texts:
        try:
            row = json.loads(text)
        except ValueError as error:
            raise CliError(f"--row {text!r}: not JSON: {error}", 2) from None
        if not isinstance(row, dict | list):
            raise CliError(f'--row {text!r}: expected {{"feature": value, ...}} or [value, ...]', 2)
        rows.append(row)
    return rows


def explain(cluster: Cluster, name: str, rows: list[Any], url: str | None) -> Json:
    """Ask the users' Service for explanations: directly at `url`, else through the API server's proxy."""
    body = {"rows": rows}
    if url is None:
        port = int(cluster.model(name)["spec"]["service"]["port"])
        return cluster.ask_service(name, port, "/explain", body)
    if not url.startswith(("http://", "https://")):
        raise CliError(f"--url {url!r}: expected an http(s) address", 2)
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url.rstrip('/')}/explain", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            found: Json = json.load(answer)
    except urllib.error.HTTPError as error:
        raise CliError(f"{url}: {error.code} {error.read().decode(errors='replace')[:500]}") from None
    except (OSError, ValueError) as error:
        raise CliError(f"{url}: no answer: {error}") from None
    return found


def told(answer: Json) -> str:
    """Return the explanations as text, one paragraph a row."""
    parts = []
    for index, prediction in enumerate(answer.get("predictions", ()), start=1):
        label = "ANOMALY" if prediction["anomaly"] else "normal"
        confidence = percent(prediction.get("confidence"))
        above = f", more anomalous than {confidence} of the training data" if confidence else ""
        lines = [f"Row {index}: {label}, score {number(prediction['score'])}{above} (version {answer.get('version')})"]
        if explanation := prediction.get("explanation"):
            lines += [explanation.get("interpretation") or "", _contributions(explanation)]
        parts.append("\n".join(line for line in lines if line))
    return "\n\n".join(parts)


def _contributions(explanation: Json) -> str:
    return table(
        ["FEATURE", "VALUE", "UNIT", "EFFECT", "SHARE", "PERCENTILE"],
        [
            (
                c["feature"],
                number(c["value"]),
                c.get("unit"),
                c.get("direction"),
                percent(c.get("share")),
                number(c.get("percentile")),
            )
            for c in explanation.get("contributions", ())
        ],
    )
