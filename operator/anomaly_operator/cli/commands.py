"""The commands that ask the operator for something: one annotation, one answer in `status.lastCommand`."""

import json
import time
import uuid

from anomaly_operator.cli.cluster import Cluster
from anomaly_operator.cli.errors import CliError
from anomaly_operator.cli.registry import move_alias
from anomaly_operator.domain import names
from anomaly_operator.domain.codec import status_from_json
from anomaly_operator.domain.records import Json, LastCommand

VERBS = {
    "promote": "Give users the candidate that waits, now.",
    "abort": "Give up the candidate: scale it down and quarantine it.",
    "retry": "Lift the quarantine of the wanted revision and try it again.",
    "rollback": "Give users the previous revision, or --to another one, and quarantine what is left.",
    "pause": "Start no new rollout and promote nothing. Rollbacks are never paused.",
    "resume": "End a pause.",
    "retrain": "Start a retraining, whatever drift and schedule say.",
}
NO_ANSWER = 3
"""Exit code when the operator said nothing in time."""
_POLL_SECONDS = 0.1


def command_text(identity: str, verb: str, revision: str | None, by: str) -> str:
    """Return the annotation in the one spelling that the admission policy accepts: compact, `by` last.

    Raises CliError for a user name with quotes or backslashes: the policy could not tell it from two.
    """
    if '"' in by or "\\" in by:
        raise CliError(f"user name {by!r}: a command cannot carry quotes or backslashes; use another identity")
    wanted = {"revision": revision} if revision else {}
    return json.dumps({"id": identity, "verb": verb, **wanted, "by": by}, separators=(",", ":"), ensure_ascii=False)


def send(
    cluster: Cluster, name: str, verb: str, *, revision: str | None = None, wait: float = 10.0
) -> LastCommand | None:
    """Write the command and wait up to `wait` seconds for the operator's answer; None if 0 was given.

    Raises CliError (code 3) when no answer came: the command stays in place and is obeyed when the operator is back.
    """
    identity = uuid.uuid4().hex
    cluster.annotate(name, names.COMMAND, command_text(identity, verb, revision, cluster.whoami()))
    if wait <= 0:
        return None
    deadline = time.monotonic() + wait
    while True:
        answer = status_from_json(cluster.model(name).get("status")).last_command
        if answer is not None and answer.id == identity:
            return answer
        if time.monotonic() >= deadline:
            raise CliError(
                f"{verb}: no answer from the operator within {wait:g} s. The command stays in place and is obeyed as"
                " soon as one is there; see `kubectl get deployments -A -l app.kubernetes.io/name=anomaly-operator`",
                NO_ANSWER,
            )
        time.sleep(_POLL_SECONDS)


def move_alias_back(cluster: Cluster, before: Json, uri: str | None, *, wait: float) -> str:
    """Let the alias follow an accepted rollback, with the caller's credentials; returns what was moved, in words.

    `before` is the AnomalyModel as it was; it must follow an alias. Raises CliError (code 3) if the rollback takes
    longer than `wait` seconds.
    """
    name, wanted = before["metadata"]["name"], before["spec"]["model"]
    left = status_from_json(before.get("status")).active
    deadline = time.monotonic() + wait
    while True:
        active = status_from_json(cluster.model(name).get("status")).active
        if active is not None and left is not None and active.revision != left.revision:
            break
        if time.monotonic() >= deadline:
            raise CliError(f"the rollback of {name} is not done within {wait:g} s; the alias was not moved", NO_ANSWER)
        time.sleep(_POLL_SECONDS)
    move_alias(uri or wanted.get("trackingUri"), wanted["name"], wanted["alias"], active.version)
    return f"{wanted['name']}: alias {wanted['alias']} moved from version {left.version} to {active.version}"
