"""What follows an answer, whoever asked: it is counted, remembered, watched for drift and copied to the other color."""

import time
from collections.abc import Mapping

from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.observer import Observation
from anomaly_detector.pod import Pod
from anomaly_detector.protocols import Query, Scored
from anomaly_detector.report import Source
from anomaly_detector.shadow import Copy


class Accounting:
    """Counts of requests in the report's window and in the metrics, and what is passed on of them."""

    def __init__(self, pod: Pod, metrics: RequestMetrics) -> None:
        self._pod, self._metrics = pod, metrics

    def served(self, query: Query, scored: Scored, source: Source, times: tuple[float, ...]) -> None:
        """Count a scored request; `times` are the moments between its phases, seconds."""
        rows, anomalies, milliseconds = len(query.rows), len(scored.ids), (times[-1] - times[0]) * 1000
        self._pod.window.served(source, milliseconds=milliseconds, rows=rows, anomalies=anomalies, failed=False)
        self._metrics.answered(source, times=times, rows=rows, anomalies=anomalies)
        self._note_own(source)

    def failed(self, rows: int, source: Source, seconds: float) -> None:
        """Count a request that the model or the server could not answer."""
        self._pod.window.served(source, milliseconds=seconds * 1000, rows=rows, anomalies=0, failed=True)
        self._metrics.refused(source, "failed")
        self._note_own(source)
        self._pod.wake_reporter()

    def refused(self, source: Source) -> None:
        """Count a request that was not acceptable."""
        self._pod.window.client_error(source)
        self._metrics.refused(source, "client_error")

    def shed(self, source: Source) -> None:
        """Count a request for which there was no room."""
        self._pod.window.shed(source)
        self._metrics.refused(source, "shed")

    def observe(self, query: Query, scored: Scored, source: Source) -> None:
        """Hand answered rows to drift detection, rings and listeners."""
        if self._pod.serving is not None:
            self._pod.serving.observer.offer(Observation(query.rows, scored, source))

    def copy(
        self, query: Query, scored: Scored | None, headers: Mapping[str, str], seconds: float | None = None
    ) -> None:
        """Copy a user's request to the other color while active; `scored` is None where the own model failed.

        `seconds` is how long the own answer took; None where that is not to be compared.
        """
        current, serving = self._pod.roles.current, self._pod.serving
        if serving is not None and current.role == "active" and current.shadow_percent > 0:
            serving.shadow.offer(Copy(query.rows, scored, headers, seconds), current.shadow_percent)

    def _note_own(self, source: Source) -> None:
        """Note when this pod itself last answered a user."""
        if source == "user":
            self._pod.last_own_user_answer = time.time()
