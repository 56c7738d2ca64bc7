"""What `demo-report.json` says; every number was measured in the run."""

from typing import Any

from view import Scene


def summarise(scene: Scene, rollback: dict[str, float], retraining: dict[str, Any]) -> dict[str, Any]:
    """Return the report of a run as plain JSON."""
    tally = scene.tally
    explained = (tally.explained or {}).get("explanation") or {}
    return {
        "seconds": round(scene.elapsed(), 1),
        "requests": {
            "sent": tally.sent,
            "lost": tally.lost,
            "lostReasons": dict(tally.lost_reasons),
            "errors": dict(tally.errors),
            "answeredBy": dict(tally.by_version),
        },
        "steps": [
            {
                "name": step.name,
                "version": step.version,
                "outcome": step.outcome,
                "seconds": round(step.seconds or 0.0, 2),
                "reason": step.reason,
            }
            for step in scene.steps
        ],
        "rollback": {name: round(value, 1) for name, value in rollback.items()},
        "retraining": retraining,
        "explanation": explained.get("text", ""),
    }
