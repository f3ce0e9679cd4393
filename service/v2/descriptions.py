"""What the protocol tells of the server, its models, and what they have done."""

from typing import Any

from artifact.manifest import Tensor
from service.engine.engine import Engine
from service.engine.queues import Load
from service.v2.names import DATATYPES, Target, find_all, shape

_PLATFORM = "onnxruntime_onnx"

_EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"]


def server(version: str) -> dict[str, Any]:
    """Tell of the server."""
    return {"name": "latentd", "version": version, "extensions": _EXTENSIONS}


def metadata(engine: Engine, target: Target) -> dict[str, Any]:
    """Tell what a model takes and gives."""
    return {
        "name": target.name,
        "versions": [other.version for other in find_all(engine, target.name)],
        "platform": _PLATFORM,
        "inputs": [_tensor(tensor) for tensor in target.graph.inputs],
        "outputs": [_tensor(tensor) for tensor in target.outputs],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": DATATYPES[tensor.dtype], "shape": shape(tensor)}


def config(engine: Engine, target: Target) -> dict[str, Any]:
    """Tell the same as a model configuration, whose shapes leave the batch out."""
    return {
        "name": target.name,
        "platform": _PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": engine.settings.max_rows,
        "input": [_configured(tensor) for tensor in target.graph.inputs],
        "output": [_configured(tensor) for tensor in target.outputs],
        "dynamic_batching": {"preferred_batch_size": list(target.model.plans[target.role].buckets)},
    }


def _configured(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": f"TYPE_{DATATYPES[tensor.dtype]}", "dims": shape(tensor)[1:]}


def all_targets(engine: Engine) -> list[Target]:
    """List every graph of every served model."""
    return [Target(model, role) for model in engine.models() for role in model.manifest.graphs]


async def index(engine: Engine, *, ready: bool) -> list[dict[str, str]]:
    """List the repository: every graph that is served, and what the store holds beside that.

    Args:
        engine: that serves them.
        ready: leave out what is not served.
    """
    entries = [
        {"name": target.name, "version": target.version, "state": "READY", "reason": ""}
        for target in all_targets(engine)
    ]
    if ready:
        return entries
    served, problems = engine.catalog.by_reference(), engine.catalog.problems
    reasons = {reference: "it is not loaded" for reference in await engine.lifecycle.shelf() if reference not in served}
    for reference, reason in (reasons | dict(problems)).items():
        name, _, version = reference.partition("@")
        entries.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason})
    return entries


def statistics(engine: Engine, targets: list[Target]) -> dict[str, Any]:
    """Tell what graphs have done since the start of the process."""
    return {"model_stats": [_statistics(engine, target) for target in targets]}


def _statistics(engine: Engine, target: Target) -> dict[str, Any]:
    load = engine.loads.get((target.model.reference, target.role)) or Load()
    return {
        "name": target.name,
        "version": target.version,
        "inference_count": load.rows,
        "execution_count": load.runs,
        "inference_stats": {
            "success": _duration(load.requests, load.queue_seconds + load.seconds),
            "queue": _duration(load.requests, load.queue_seconds),
            "compute_infer": _duration(load.runs, load.seconds),
        },
        "batch_stats": [
            {"batch_size": size, "compute_infer": {"count": count}} for size, count in sorted(load.buckets.items())
        ],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
