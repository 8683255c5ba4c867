"""Counts of a live stream as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..core.errors import StreamError
from .stream import CameraSummary

COUNTERS = {
    "frames": "Frames that came from the camera.",
    "windows": "Windows that were classified.",
    "dropped": "Frames that no window looked at.",
    "reopened": "Times that the source was opened again.",
}
LATENCIES = {"0.5": "latency_p50_ms", "0.9": "latency_p90_ms", "0.99": "latency_p99_ms"}


class StreamCollector(Collector):
    """The summaries of the cameras at the time they are asked for."""

    def __init__(self, summarize: Callable[[], Sequence[CameraSummary]]) -> None:
        self._summarize = summarize

    def collect(self) -> Iterator[Metric]:
        cameras = self._summarize()
        for name, meaning in COUNTERS.items():
            counter = CounterMetricFamily(f"dualexport_{name}", meaning, labels=("camera",))
            for one in cameras:
                counter.add_metric((one.camera,), getattr(one, name))
            yield counter
        latency = GaugeMetricFamily(
            "dualexport_latency_seconds",
            "From a window's last frame to its answer, of the newest windows.",
            labels=("camera", "quantile"),
        )
        for one in cameras:
            for quantile, name in LATENCIES.items():
                if (milliseconds := getattr(one, name)) is not None:
                    latency.add_metric((one.camera, quantile), milliseconds / 1e3)
        yield latency


@contextmanager
def serve_metrics(summarize: Callable[[], Sequence[CameraSummary]], host: str, port: int) -> Iterator[int]:
    """Answer at http://host:port/metrics, and say at which port (0 takes a free one); raises StreamError."""
    registry = CollectorRegistry()
    registry.register(StreamCollector(summarize))
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StreamError(
            f"metrics cannot be served at {host}:{port}: {reason}", fix="give another --metrics"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
