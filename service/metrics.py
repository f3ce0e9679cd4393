"""What Prometheus reads: counters and gauges on a registry of their own."""

from collections.abc import Iterator
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from service.engine.engine import Engine

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LOADS = {
    "runs": "Runs of a graph.",
    "rows": "Rows that the runs of a graph answered; over its runs, the mean batch.",
    "seconds": "Time in the runs of a graph.",
}


class _Loads(Collector):
    """The load of every graph, read from the engine when Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give a family of counters for each figure."""
        for name, text in _LOADS.items():
            family = CounterMetricFamily(f"latentd_graph_{name}", text, labels=("model", "graph"))
            for labels, load in self._engine.loads.items():
                family.add_metric(labels, getattr(load, name))
            yield family


class Metrics:
    """The service's metrics.

    Args:
        engine: read when Prometheus asks, not before.
    """

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        # Finding metrics by their labels takes longer than counting; there are few endpoints and statuses.
        self._of = lru_cache(maxsize=1024)(self._find)
        self._requests = Counter(
            "latentd_requests", "Requests answered.", ("endpoint", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "latentd_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("endpoint",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._rows = Counter("latentd_rows", "Items answered.", ("endpoint",), registry=self._registry)
        queue = Gauge("latentd_queue_rows", "Rows that wait for their run.", registry=self._registry)
        queue.set_function(lambda: engine.queue_rows)
        ready = Gauge("latentd_ready", "1 while the service answers, else 0.", registry=self._registry)
        ready.set_function(lambda: float(engine.state == "ready"))
        self._device = Gauge(
            "latentd_device_info", "What the graphs run on.", ("provider", "requested"), registry=self._registry
        )
        self._registry.register(_Loads(engine))
        self._models = Gauge("latentd_model_info", "Models served.", ("model", "family"), registry=self._registry)

    def observe_request(self, endpoint: str, status: int, duration_s: float) -> None:
        """Count a request that has been answered."""
        requests, seconds = self._of(endpoint, status)
        requests.inc()
        seconds.observe(duration_s)

    def _find(self, endpoint: str, status: int) -> tuple[Counter, Histogram]:
        """Find the metrics of an endpoint and a status."""
        return self._requests.labels(endpoint, str(status)), self._seconds.labels(endpoint)

    def observe_rows(self, endpoint: str, rows: int) -> None:
        """Count the items of an answer."""
        self._rows.labels(endpoint).inc(rows)

    def describe(self, engine: Engine) -> None:
        """Tell of the device and the models, once the engine has started."""
        self._device.labels(engine.device.provider, engine.device.requested).set(1)
        for model in engine.models():
            self._models.labels(model.reference, model.manifest.family).set(1)

    def render(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self._registry)
