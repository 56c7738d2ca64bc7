"""The story that the demo tells, step by step; each step waits until the world shows that it happened."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import recording
from stage import NAMESPACE, Stage
from traffic import Traffic, with_a_silent_network
from view import Step, View

MANIFEST = Path(__file__).parent / "anomalymodel.yaml"
BATCH = 16
STEP_TIMEOUT = 90.0
QUORUM = 0.5
"""Share of the pods with a verdict that must agree (`spec.gates.quorum.drift`)."""
CALM = 0.5
"""Drift confidence up to which nothing is amiss (`spec.gates.drift.maxConfidence`)."""


class DidNotHappenError(Exception):
    """Say which step of the story did not happen as told, and what the operator said instead."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a step ended: the outcome and the operator's own reason."""

    outcome: str
    reason: str


class Story:
    """Tell the story on a stage; `steps` and the tally are the record."""

    def __init__(self, stage: Stage, view: View, traffic: Traffic) -> None:
        self.stage, self.view, self.traffic = stage, view, traffic
        self.world = stage.world
        self.sending: asyncio.Task[None] | None = None
        self.scene = view.scene
        self.rollback: dict[str, float] = {}
        self.retraining: dict[str, Any] = {}

    async def tell(self) -> None:
        """Run every step in order. Raises DidNotHappenError at the first that does not end as told."""
        chapters: dict[str, Callable[[Step], Awaitable[Ending]]] = {
            "deploy": self.deploy,
            "promote": self.promote,
            "abort": self.abort,
            "rollback": self.roll_back,
            "drift": self.drift,
            "retrain": self.retrain,
        }
        for step in self.scene.steps:
            await self._run(step, chapters[step.name])

    async def _run(self, step: Step, chapter: Callable[[Step], Awaitable[Ending]]) -> None:
        step.began = time.monotonic()
        try:
            async with asyncio.timeout(STEP_TIMEOUT):
                ending = await chapter(step)
        except TimeoutError:
            said = self.scene.world.status.get("message", "nothing")
            raise DidNotHappenError(
                f"{step.name}: not within {STEP_TIMEOUT:.0f} s ({self.scene.now_doing}); the operator says: {said}"
            ) from None
        step.seconds = time.monotonic() - step.began
        step.outcome, step.reason = ending.outcome, ending.reason
        self.view.say(f"{step.title}: {ending.outcome} in {step.seconds:.1f} s. {ending.reason}")

    async def deploy(self, step: Step) -> Ending:
        """Deploy the first version and begin to send traffic."""
        self.view.say("training version 1")
        step.version = (await self.stage.train())["version"]
        await self.stage.kubectl(
            "apply", "-f", "-", given=f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n"
        )
        await self.stage.kubectl("apply", "-f", str(MANIFEST))
        self.view.say("waiting until version 1 serves")
        await self._active(step.version)
        self.traffic.url = f"{self.stage.service_url()}/predict"
        self.sending = asyncio.create_task(self.traffic.run())
        return Ending("serving", self._reason())

    async def promote(self, step: Step) -> Ending:
        """Train a better version, move the alias, and wait until it serves."""
        await self._release(step)
        await self._active(step.version)
        return Ending("promoted", self._reason())

    async def abort(self, step: Step) -> Ending:
        """Release a version that calls half of all rows anomalous; it must never reach users."""
        before = self._serving()
        await self._release(step)
        self.view.say(f"version {step.version}: waiting for a gate to catch it")
        await self.world.until(lambda: self._quarantined(step.version))
        if self._serving() != before or self.traffic.tally.by_version[str(step.version)]:
            raise DidNotHappenError(f"abort: users saw version {step.version}")
        return Ending("aborted", self._reason())

    async def roll_back(self, step: Step) -> Ending:
        """Release a version that is fine until a valid row holds 0 Mbps, which comes only after its promotion."""
        before = self._serving()
        await self._release(step)
        await self._active(step.version)
        self.view.say(f"version {step.version} serves; now a machine's network falls silent: rows with 0 Mbps")
        self.traffic.spoil = with_a_silent_network
        await self._active(before)
        self._measure(str(step.version))
        return Ending("rolled back", self._reason())

    async def drift(self, step: Step) -> Ending:
        """Replay the machine under another load: the world has moved, no version is to blame."""
        before = self._serving()
        self.view.say("the machine's load changes for good")
        self.traffic.spoil = lambda batch: batch
        self.traffic.rows = recording.batches(recording.read(recording.HERE / "shifted.csv"), BATCH)
        await self.world.until(lambda: self.world.condition("Drifted").get("status") == "True")
        if self._serving() != before:
            raise DidNotHappenError(f"drift: version {before} was replaced by {self._serving()}")
        step.version = before
        self.retraining = {"driftAt": _now().isoformat(timespec="milliseconds")}
        self.retraining["confidenceBefore"] = self._confidence()
        return Ending("drifted", str(self.world.condition("Drifted")["message"]))

    async def retrain(self, step: Step) -> Ending:
        """Do nothing: a Job trains on the rows that the pods kept, and its version goes the way of every other."""
        self.view.say("waiting until the operator starts a training Job")
        await self.world.until(lambda: bool(self.world.retraining()))
        self.view.say(f"the Job {self.world.retraining()['job']} trains on what users sent since the drift began")
        await self.world.until(lambda: self.world.retraining()["outcome"] != "Running")
        done = self.world.retraining()
        if done["outcome"] != "Succeeded":
            raise DidNotHappenError(f"retrain: {done['message']}")
        step.version = done["version"]
        self.view.say(f"version {step.version} is registered and has the alias; it must pass the gates as any other")
        await self._active(step.version)
        drift_at = datetime.fromisoformat(self.retraining["driftAt"])
        self.retraining |= {
            "jobSeconds": round(_seconds(done["startedAt"], done["endedAt"]), 1),
            "version": step.version,
            "promotedSecondsAfterDrift": round((_now() - drift_at).total_seconds(), 1),
        }
        self.view.say(f"version {step.version} serves; waiting for what its pods say of drift")
        await self.world.until(self._drift_is_over)
        self.retraining["confidenceAfter"] = self._confidence()
        return Ending("promoted", f"{self._reason()}; drift confidence {self.retraining['confidenceAfter']:g}")

    def _confidence(self) -> float | None:
        """Return the drift confidence that a quorum of the pods that can tell reach; None while none can."""
        active = self.world.status["active"]
        reports = self.world.reports(active["color"], active["version"])
        said = [report["drift"]["confidence"] for report in reports if report["role"] == "active"]
        known = sorted((confidence for confidence in said if confidence is not None), reverse=True)
        return float(known[math.ceil(QUORUM * len(known)) - 1]) if known else None

    def _drift_is_over(self) -> bool:
        confidence = self._confidence()
        cleared = self.world.condition("Drifted").get("status") == "False"
        return cleared and confidence is not None and confidence <= CALM

    async def _release(self, step: Step) -> None:
        self.view.say(f"{step.title}: training")
        step.version = (await self.stage.train())["version"]
        self.view.say(f"alias champion -> version {step.version}")
        await self.stage.move_alias(step.version)

    async def _active(self, version: str | None) -> None:
        """Wait until `version` serves; raises DidNotHappenError if it is rejected instead."""
        await self.world.until(lambda: self._serving() == version or self._quarantined(version))
        if self._serving() != version:
            raise DidNotHappenError(str(self.world.status["message"]))

    def _serving(self) -> str | None:
        active = self.world.status.get("active") or {}
        return active.get("version")

    def _quarantined(self, version: str | None) -> bool:
        return any(q["version"] == version for q in self.world.status.get("quarantine", []))

    def _reason(self) -> str:
        history = self.world.status.get("history") or [{}]
        return str(history[0].get("message") or history[0].get("reason", ""))

    def _measure(self, version: str) -> None:
        """Take the times of a rollback: breach seen -> selector patched -> last answer of the version that was left."""
        patched = self.world.switches[-1][1]
        breach = [b.seen for b in self.world.breaches if b.version == version and b.seen <= patched]
        self.rollback = {
            "breachToPatchMs": (patched - breach[0]) * 1000,
            "patchToLastLoserRequestMs": max(0.0, self.traffic.tally.last_answer[version] - patched) * 1000,
            "firstErrorToPatchMs": (patched - self.traffic.tally.first_error[version]) * 1000,
        }

    async def stop(self) -> None:
        """End the traffic; what is in flight is still counted."""
        if self.sending:
            self.sending.cancel()
            with suppress(asyncio.CancelledError):
                await self.sending

    def complaints(self) -> list[str]:
        """Return what did not go as promised, though every step was reached."""
        tally, trap = self.traffic.tally, next(s.version for s in self.scene.steps if s.name == "rollback")
        said = [f"{tally.lost} requests lost: {dict(tally.lost_reasons)}"] if tally.lost else []
        said += [f"version {v}: {n} errors" for v, n in tally.errors.items() if v != trap]
        return said + [f"{n} requests answered {code}" for code, n in tally.rejected.items()]


def _now() -> datetime:
    return datetime.now(UTC)


def _seconds(began: str, ended: str) -> float:
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
