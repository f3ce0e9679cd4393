"""What Prometheus reads: counters and gauges on a registry of their own."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.engine.engine import Engine
from service.engine.profile import SIZES
from service.tallies import Requests, cumulative

_LOADS = {
    "runs": "Runs of a graph.",
    "rows": "Rows that the runs of a graph answered; over its runs, the mean batch.",
    "padding_rows": "Rows that only filled a batch.",
    "seconds": "Time in the runs of a graph.",
    "queue_seconds": "Time that requests waited for their first run of a graph.",
    "requests": "Requests whose rows a graph has answered.",
}


class _Loads(Collector):
    """The load of every graph, read from the engine when Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Give a family for each figure."""
        loads = dict(self._engine.loads)
        for name, text in _LOADS.items():
            family = CounterMetricFamily(f"latentd_graph_{name}", text, labels=("model", "graph"))
            for labels, load in loads.items():
                family.add_metric(labels, getattr(load, name))
            yield family
        batches = HistogramMetricFamily(
            "latentd_graph_batch_rows", "Batch sizes of the runs, padding included.", labels=("model", "graph")
        )
        for labels, load in loads.items():
            sizes = dict(load.buckets)
            beyond = sum(runs for size, runs in sizes.items() if size not in SIZES)
            counts = [*(sizes.get(size, 0) for size in SIZES), beyond]
            total = sum(size * runs for size, runs in sizes.items())
            batches.add_metric(labels, cumulative(SIZES, counts), total)
        yield batches


class _State(Collector):
    """What the engine is about, likewise."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Give a gauge for each figure."""
        engine = self._engine
        batcher = engine.batcher
        yield GaugeMetricFamily("latentd_ready", "1 while the service answers, else 0.", float(engine.state == "ready"))
        yield GaugeMetricFamily("latentd_queue_rows", "Rows that wait for their run.", engine.queue_rows)
        yield GaugeMetricFamily("latentd_queue_bytes", "Bytes of their inputs and outputs.", batcher.queue_bytes)
        yield GaugeMetricFamily("latentd_queue_age_seconds", "How long the oldest of them waits.", batcher.age_s)
        yield CounterMetricFamily("latentd_runner_deaths", "Runner threads that died.", batcher.deaths)
        device = GaugeMetricFamily("latentd_device_info", "What the graphs run on.", labels=("provider", "requested"))
        device.add_metric((engine.device.provider, engine.device.requested), 1.0)
        models = GaugeMetricFamily("latentd_model_info", "Models served.", labels=("model", "family"))
        for model in engine.models():
            models.add_metric((model.reference, model.manifest.family), 1.0)
        failures = CounterMetricFamily(
            "latentd_model_load_failures", "Times that a model could not be loaded.", labels=("model",)
        )
        for name, count in engine.lifecycle.failures.items():
            failures.add_metric((name,), count)
        yield from (device, models, failures)


class Metrics:
    """The service's metrics.

    Args:
        engine: read when Prometheus asks, not before.
        others: asked along with it.
    """

    def __init__(self, engine: Engine, *others: Collector) -> None:
        self.requests = Requests()
        self._registry = CollectorRegistry()
        for collector in (self.requests, _Loads(engine), _State(engine), *others):
            self._registry.register(collector)

    def render(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self._registry)
