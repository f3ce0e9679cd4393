"""The metrics of several processes as one text."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from service.siblings import Reply, Siblings


class _Given(Collector):
    """Families that are known already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Give them."""
        return self._families


def merge(texts: Mapping[int, str]) -> bytes:
    """Join texts in Prometheus' format; every sample gets the label `worker`, over which sums are taken.

    Args:
        texts: by the number of their process.

    Returns:
        One text, each family once.
    """
    families: dict[str, Metric] = {}
    for worker, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text):
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                known.add_sample(sample.name, sample.labels | {"worker": str(worker)}, sample.value)
    registry = CollectorRegistry()
    registry.register(_Given(families.values()))
    return generate_latest(registry)


async def merged(siblings: Siblings, own: bytes, path: str) -> bytes:
    """Join the metrics of this process with those of its siblings; one that does not answer is left out.

    Args:
        siblings: who they are.
        own: the text of this one.
        path: where the others give theirs.

    Returns:
        One text; the own one as it is where there is one process.
    """
    if not siblings.others:
        return own
    answers = await siblings.broadcast("GET", path)
    texts = {
        worker: reply.body.decode()
        for worker, reply in answers.items()
        if isinstance(reply, Reply) and reply.status == 200
    }
    return merge(texts | {siblings.worker: own.decode()})
