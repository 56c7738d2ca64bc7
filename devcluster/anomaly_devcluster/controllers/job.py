"""Run a Job's pods to completion."""

import time

from anomaly_devcluster import clock
from anomaly_devcluster.client import JOBS, PODS, Object
from anomaly_devcluster.controllers import base
from anomaly_devcluster.controllers.base import Controller, being_deleted, gather_all, pod_of
from anomaly_devcluster.informer import Key
from anomaly_devcluster.pods import condition, is_active, is_ready

_FIRST_BACKOFF_SECONDS = 10
_LAST_BACKOFF_SECONDS = 600


class JobController(Controller):
    """Create pods until enough succeeded, too many failed, or time is up."""

    def watch(self) -> None:
        """Follow Jobs and their pods."""
        self.jobs = self.on_objects(JOBS)
        self.pods = self.on_children(PODS, "Job")

    async def reconcile(self, key: Key) -> float | None:
        """Take one Job a step further."""
        job = self.jobs.get(*key)
        if job is None or being_deleted(job):
            return None
        if finished_at(job) is not None:
            return await self._expire(job)
        pods = self.pods.owned_by(job)
        now = time.time()
        outcome = self._outcome(job, pods, now)
        again: float | None = None
        if outcome is None and not job["spec"].get("suspend"):
            again = await self._scale(job, pods, now)
        elif outcome is not None or job["spec"].get("suspend"):
            await gather_all([self.client.delete(PODS, pod) for pod in pods if is_active(pod)])
        await self._write_status(job, self.pods.owned_by(job), outcome)
        deadline = self._deadline(job)
        waits = [seconds for seconds in (again, deadline - now if deadline else None) if seconds is not None]
        return max(0.05, min(waits)) if waits else None

    def _outcome(self, job: Object, pods: list[Object], now: float) -> tuple[str, str, str] | None:
        """Return the finishing condition: type, reason and message; None while the Job goes on."""
        spec = job["spec"]
        if refused := _failed_for_good(job, pods):
            return "Failed", "PodFailurePolicy", refused
        succeeded, failed = _count(pods, "Succeeded"), _failures(job, pods)
        if failed > spec.get("backoffLimit", 6):
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline = self._deadline(job)
        if deadline is not None and now >= deadline:
            return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
        completions = spec.get("completions")
        done = succeeded >= completions if completions is not None else succeeded and not any(map(is_active, pods))
        return ("Complete", "CompletionsReached", "Reached expected number of succeeded pods") if done else None

    @staticmethod
    def _deadline(job: Object) -> float | None:
        seconds, started = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
        return None if seconds is None or started is None else clock.parse(started) + seconds

    async def _scale(self, job: Object, pods: list[Object], now: float) -> float | None:
        spec = job["spec"]
        active = sum(map(is_active, pods))
        succeeded = _count(pods, "Succeeded")
        wanted = spec.get("parallelism", 1)
        completions = spec.get("completions")
        if completions is not None:
            wanted = min(wanted, completions - succeeded)
        elif succeeded:
            wanted = min(wanted, active)
        if active > wanted:
            await gather_all([self.client.delete(PODS, p) for p in [p for p in pods if is_active(p)][wanted:]])
        if active >= wanted:
            return None
        if (wait := _backoff_left(pods, now)) > 0:
            return wait
        await gather_all([self._create(job) for _ in range(wanted - active)])
        return None

    async def _create(self, job: Object) -> None:
        pod = await self.pods.create(pod_of(job))
        self.events.normal(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

    async def _write_status(self, job: Object, pods: list[Object], outcome: tuple[str, str, str] | None) -> None:
        before, now = job.get("status", {}), clock.now()
        status = {
            "startTime": before.get("startTime") or (None if job["spec"].get("suspend") else now),
            "active": sum(map(is_active, pods)) if outcome is None else 0,
            "ready": sum(is_ready(pod) for pod in pods if is_active(pod)) if outcome is None else 0,
            "succeeded": max(_count(pods, "Succeeded"), before.get("succeeded", 0)),
            "failed": max(_count(pods, "Failed"), before.get("failed", 0)),
            "terminating": sum(being_deleted(pod) for pod in pods),
            "conditions": before.get("conditions"),
        }
        if outcome is not None:
            kind, reason, message = outcome
            interim = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
            times = {"lastProbeTime": now, "lastTransitionTime": now}
            status["conditions"] = [base.condition(name, "True", reason, message) | times for name in (interim, kind)]
            if kind == "Complete":
                status["completionTime"] = now
                self.events.normal(job, "Completed", "Job completed")
            else:
                self.events.warning(job, reason, message)
        await self.write_status(self.jobs, job, status)

    async def _expire(self, job: Object) -> float | None:
        seconds: float | None = job["spec"].get("ttlSecondsAfterFinished")
        finished = finished_at(job)
        if seconds is None or finished is None:
            return None
        left = finished + seconds - time.time()
        if left > 0:
            return left
        await self.client.delete(JOBS, job, policy="Background")
        return None


def finished_at(job: Object) -> float | None:
    """Return when the Job ended, None while it runs."""
    for kind in ("Complete", "Failed"):
        ended = condition(job, kind)
        if ended and ended["status"] == "True":
            return clock.parse(ended["lastTransitionTime"])
    return None


def _count(pods: list[Object], phase: str) -> int:
    return sum(pod.get("status", {}).get("phase") == phase for pod in pods)


def _failures(job: Object, pods: list[Object]) -> int:
    """Return the failed pods, or with restartPolicy OnFailure the restarts of their containers."""
    failed = _count(pods, "Failed")
    if job["spec"]["template"]["spec"].get("restartPolicy") == "OnFailure":
        failed += sum(
            s.get("restartCount", 0) for p in pods for s in p.get("status", {}).get("containerStatuses") or []
        )
    return failed


def _failed_for_good(job: Object, pods: list[Object]) -> str | None:
    """Return how a pod matched a rule of `podFailurePolicy` that fails the Job, None if none did.

    Of the rules only FailJob on exit codes is known here: the others (Ignore, Count, on pod conditions) are about nodes
    that go away or change what counts, and are passed over.
    """
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or []
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or []:
            code = (status["state"].get("terminated") or {}).get("exitCode", 0)
            for index, rule in enumerate(rules):
                if code and rule["action"] == "FailJob" and _matches(rule.get("onExitCodes"), status["name"], code):
                    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                    words = f"failed with exit code {code} matching FailJob rule at index {index}"
                    return f"Container {status['name']} for pod {where} {words}"
    return None


def _matches(wanted: Object | None, container: str, code: int) -> bool:
    if wanted is None or wanted.get("containerName") not in (None, container):
        return False
    return bool((code in wanted["values"]) == (wanted["operator"] == "In"))


def _backoff_left(pods: list[Object], now: float) -> float:
    """Return how long to wait before the next pod: 10 s after the first failure, doubling with each."""
    ends = [
        clock.parse(state["terminated"]["finishedAt"])
        for pod in pods
        if pod.get("status", {}).get("phase") == "Failed"
        for status in pod["status"].get("containerStatuses") or []
        if "terminated" in (state := status["state"])
    ]
    if not ends:
        return 0.0
    delay: float = min(_FIRST_BACKOFF_SECONDS * 2.0 ** (_count(pods, "Failed") - 1), _LAST_BACKOFF_SECONDS)
    return max(ends) + delay - now
