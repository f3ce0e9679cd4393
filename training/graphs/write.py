"""Writing graphs: torch modules as ONNX files beside the one file of their weights."""

import logging
import warnings
from pathlib import Path

import onnx
import torch

from training.errors import ExportError
from training.graphs.spec import GraphSpec, axes, by_parameter, example
from training.weights import write_shared

OPSET = 20


def write_graphs(specs: tuple[GraphSpec, ...], weights: Path) -> None:
    """Write every graph beside the file of their shared weights.

    Args:
        specs: the graphs.
        weights: the file.
    """
    write_shared({weights.with_name(spec.file): _trace(spec) for spec in specs}, weights)


def _trace(spec: GraphSpec) -> onnx.ModelProto:
    """Turn a module into an ONNX graph with its symbolic axes."""
    arguments = tuple(example(tensor, spec) for tensor in spec.inputs)
    symbols = axes(spec)
    shapes = [
        {axis: symbols[name] for axis, name in enumerate(tensor.shape) if isinstance(name, str)}
        for tensor in spec.inputs
    ]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing of the model's
        program = torch.onnx.export(
            spec.module.eval(),
            arguments,
            dynamo=True,
            dynamic_shapes=by_parameter(spec.module, shapes),
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"torch gave no graph for {spec.role}")
    graph: onnx.ModelProto = program.model_proto
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.value_info, graph.graph):
        part.ClearField("metadata_props")  # traces of the source and its place: most of the file, and none of the model
    return graph
