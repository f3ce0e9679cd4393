"""Graphs in exact integers: only operations whose results depend on no order, no kernel and no machine are in them."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, shape_inference
from onnxscript import optimizer

from training.errors import ExportError
from training.graphs.folding import fold
from training.graphs.shortening import shorten
from training.graphs.spec import GraphSpec, example
from training.weights import write_shared

EXACT_OPSET = 17
"""Old, so that old runtimes run what is written."""
_IR_VERSION = 8
"""Of the files; it belongs to that opset."""

_ARITHMETIC = {"Abs", "Add", "Cast", "Clip", "Floor", "Max", "Min", "Mod", "Mul", "Neg", "Relu", "Sub", "Sum"}
_SUMS = {"Gemm", "MatMul", "ReduceSum"}
_COMPARISONS = {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Where"}
_SHAPES = {
    *("Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"),
    *("Pad", "Range", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}
_OF_INTEGERS = {"Div"}
"""What may occur where it computes shapes."""
ALLOWED = frozenset(_ARITHMETIC | _SUMS | _COMPARISONS | _SHAPES)
"""What may occur: exact on integers in float32 while every sum stays below 2^24, which the layers prove. So there is no
convolution, which a runtime may compute through other numbers (Winograd), and no exponential or root."""

_MOST_VALUES = 2**24
"""Of a constant that is folded."""


def write_exact_graphs(specs: Sequence[GraphSpec], weights: Path) -> None:
    """Write graphs in exact integers beside the file of their shared weights, which are int8 wherever they fit.

    Args:
        specs: the graphs.
        weights: the file.

    Raises:
        ExportError: a graph has an operation that may not occur, or a weight that is no integer.
    """
    graphs = {}
    for spec in specs:
        graph = _trace(spec)
        check_operations(spec.role, graph)
        shorten(graph)
        fold(graph)
        onnx.checker.check_model(graph)
        graphs[weights.with_name(spec.file)] = graph
    write_shared(graphs, weights)


def _trace(spec: GraphSpec) -> onnx.ModelProto:
    """Turn a module into an ONNX graph with its symbolic axes.

    By the older one of torch's exporters: it knows old opsets, and for these many small operations it is ten times as
    fast. What it leaves of the computation of constants and shapes is folded afterwards.
    """
    tensors, file = (*spec.inputs, *spec.outputs), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older one, and that shapes are traced
        torch.onnx.export(
            spec.module.eval(),
            tuple(example(tensor, spec) for tensor in spec.inputs),
            file,  # type: ignore[arg-type]  # as its older self it takes files
            dynamo=False,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            dynamic_axes={
                tensor.name: {axis: name for axis, name in enumerate(tensor.shape) if isinstance(name, str)}
                for tensor in tensors
            },
            opset_version=EXACT_OPSET,
        )
    graph = optimizer.optimize(onnx.load_from_string(file.getvalue()), output_size_limit=_MOST_VALUES)
    if not isinstance(graph, onnx.ModelProto):
        raise ExportError(f"the graph {spec.role!r} cannot be folded")
    graph.ir_version = _IR_VERSION
    for value, tensor in zip(graph.graph.output, spec.outputs, strict=True):
        # the exporter infers wrong sizes behind a transposition, which runtimes warn of
        declared = helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, tensor.shape)
        value.type.CopyFrom(declared.type)
    return graph


def check_operations(role: str, model: onnx.ModelProto) -> None:
    """Refuse a graph that could give other integers elsewhere.

    Args:
        role: of the graph, for the message.
        model: the graph.

    Raises:
        ExportError: an operation is not among `ALLOWED`.
    """
    known = shape_inference.infer_shapes(model).graph
    integers = {value.name for value in known.value_info if value.type.tensor_type.elem_type == TensorProto.INT64}
    found = {
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
        if not (node.op_type in _OF_INTEGERS and integers.issuperset(node.output))
    }
    if others := sorted(found - ALLOWED):
        raise ExportError(
            f"graph {role!r} has operations whose results may differ between machines: {', '.join(others)}; compute "
            "with sums of integers, tables and powers of 2 instead"
        )
