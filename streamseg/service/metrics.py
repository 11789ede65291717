"""What the service counts, for Prometheus. Every application has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a fraction of a frame's encoding to a large model's frame on a CPU.
_STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """``queue_depth``: asked whenever the metrics are read."""

    def __init__(self, queue_depth: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.connections = self._gauge("connections", "Open websocket connections.")
        self.sessions = self._gauge("sessions", "Sessions under way.")
        self.sessions_kept = self._gauge("sessions_kept", "Sessions that wait for a client whose connection broke.")
        self.publications = self._gauge("publications", "Streams of WHIP publishers, with those that wait for theirs.")
        self.watchers = self._gauge("watchers", "Players that watch over WHEP.")
        self.sessions_total = self._counter("sessions_opened", "Sessions that were opened.")
        self.frames = self._counter("frames", "Frames that were segmented.")
        self.dropped = self._counter("frames_dropped", "Frames of live sources that gave way to newer ones.")
        self.file_jobs = self._gauge("file_jobs", "Uploaded files that are being processed.")
        self.upload_bytes = self._counter("upload_bytes", "Bytes of uploaded files.")
        self.files_done = self._counter("files", "Uploaded files that were processed.")
        self._errors = Counter("streamseg_errors", "Errors sent to clients.", ["code"], registry=self.registry)
        self._stages = Histogram(
            "streamseg_stage_seconds",
            "Time per frame and stage.",
            ["stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._gauge("queue_depth", "Works that wait for the model.").set_function(queue_depth)

    def watch_files(self, held_bytes: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Tell, whenever the metrics are read, how much the files take and how many wait."""
        self._gauge("files_bytes", "What uploads and results take of their quota.").set_function(held_bytes)
        self._gauge("file_jobs_waiting", "Uploaded files that wait for their turn.").set_function(waiting)

    def error(self, code: str) -> None:
        """Count an error sent to a client, or a refused handshake or request."""
        self._errors.labels(code).inc()

    def stages(self, timings_ms: Mapping[str, float]) -> None:
        """Count the times of one frame."""
        for stage, ms in timings_ms.items():
            self._stages.labels(stage).observe(ms / 1e3)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(f"streamseg_{name}", what, registry=self.registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"streamseg_{name}", what, registry=self.registry)
