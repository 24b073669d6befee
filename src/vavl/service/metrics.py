"""Figures of the service, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vavl.service.workers import Workers


class Metrics:
    """Counts what becomes of the requests; nothing in it tells of a clip.

    Args:
        workers: Whose state is shown.
    """

    def __init__(self, workers: Workers) -> None:
        self._registry = registry = CollectorRegistry()
        self.refused = Counter("vavl_refused", "Refused for a full queue", registry=registry)
        self._tasks = Counter(
            "vavl_tasks", "Clips and profiles that ended", ["status"], registry=registry
        )
        self._seconds = Histogram(
            "vavl_task_seconds",
            "From the request to the answer, with the time in the queue",
            buckets=(0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
            registry=registry,
        )
        self.streams = Gauge("vavl_live_streams", "Live streams now", registry=registry)
        for name, what, value in (
            ("vavl_waiting", "Clips that wait for a worker", lambda: workers.waiting),
            ("vavl_workers", "Workers with a model loaded", lambda: workers.ready),
            ("vavl_workers_busy", "Workers with a task", lambda: workers.busy),
            ("vavl_worker_deaths", "Workers that ended and were replaced", lambda: workers.deaths),
        ):
            Gauge(name, what, registry=registry).set_function(value)

    def ended(self, status: str, seconds: float) -> None:
        """Counts a task that is done or has failed."""
        self._tasks.labels(status).inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)
