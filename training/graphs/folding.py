"""Graphs in exact integers with fewer operations and smaller files, which give the very same integers."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float32, Int
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

_LEAST_VALUES = 256
"""Constants of fewer values stay as they are."""
_INTEGERS: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16)
_MANTISSA_BITS, _NO_BIT = 24, 2**10


def fold(model: onnx.ModelProto) -> None:
    """Make a graph small and fast, in place.

    - Every linear map is a product with a matrix `[inputs, outputs]`, so that graphs share their weights.
    - What follows it, floor(y * 2^k + 1/2) by channel, goes into its weights and its bias.
    - Weights are stored as the smallest integers that hold them, and cast; runtimes do that once, when they load them.
    - Names are numbers.

    Args:
        model: its sums are proven to be exact, and what they are multiplied by are powers of 2.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [part for node in model.graph.node for part in _normalised(node, constants)]
    _fold_scales(nodes, constants)
    outputs = {tensor.name for tensor in model.graph.output}
    nodes = _used(nodes, outputs)
    read = {name for node in nodes for name in node.input}
    stored, casts = [], []
    for name, values in constants.items():
        if name in read | outputs:
            tensor, made = _stored(name, values)
            stored.append(tensor)
            casts += made
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend([*casts, *nodes])
    model.graph.initializer.extend(stored)
    _number_names(model.graph)


def _normalised(node: NodeProto, constants: dict[str, NDArray[Any]]) -> list[NodeProto]:
    """Turn `Gemm` into a product and a sum, and count the axes of a transposition from the first one."""
    options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Transpose":
        axes = [axis % len(options["perm"]) for axis in options["perm"]]
        return [helper.make_node("Transpose", node.input, node.output, perm=axes)]
    is_plain = options.items() <= {"alpha": 1.0, "beta": 1.0, "transB": 1}.items()
    if node.op_type != "Gemm" or not is_plain or node.input[1] not in constants:
        return [node]
    x, weight, *bias = node.input
    if "transB" in options:
        constants[f"{weight}.turned"] = np.ascontiguousarray(constants[weight].T)
        weight = f"{weight}.turned"
    if not bias:
        return [helper.make_node("MatMul", [x, weight], node.output)]
    product = f"{node.output[0]}.product"
    sum_ = helper.make_node("Add", [product, *bias], node.output)
    return [helper.make_node("MatMul", [x, weight], [product]), sum_]


def _fold_scales(nodes: list[NodeProto], constants: dict[str, NDArray[Any]]) -> None:
    """Put the powers of 2 that sums are multiplied by, and the half before a floor, into weights and biases.

    Every term is multiplied by the same power of 2, so that sums are as exact as they were. A whole number needs no
    half before its floor.
    """
    made = {output: node for node in nodes for output in node.output}
    uses = Counter(name for node in nodes for name in node.input)

    def before(node: NodeProto | None, kind: str) -> tuple[NodeProto | None, str]:
        """Find what makes the input of a node that is no constant, for it alone, and the constant beside it."""
        if node is None:
            return None, ""
        inner = [name for name in node.input if name not in constants]
        beside = [name for name in node.input if name in constants]
        found = made.get(inner[0]) if len(inner) == 1 else None
        is_it = found is not None and found.op_type == kind and uses[inner[0]] == 1
        return (found if is_it else None), (beside[0] if beside else "")

    for floor in [node for node in nodes if node.op_type == "Floor"]:
        halved, _ = before(floor, "Add")
        scaled, half = before(halved, "Mul")
        shifted, scale = before(scaled, "Add")
        product, bias = before(shifted, "MatMul")
        if product is None or shifted is None or product.input[1] not in constants:
            continue
        factor = constants[scale].astype(np.float32)
        shift = constants[bias].astype(np.float64) * factor + np.where(factor < 1.0, constants[half], 0.0)
        if (shift.astype(np.float32) != shift).any():
            continue
        weight, named = constants[product.input[1]], f"{product.output[0]}.scaled"
        constants[f"{named}.weight"], constants[f"{named}.bias"] = weight * factor, shift.astype(np.float32)
        product.input[:] = [product.input[0], f"{named}.weight"]
        shifted.input[:] = [product.output[0], f"{named}.bias"]
        floor.input[:] = [shifted.output[0]]


def _used(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Leave out what nothing depends on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _stored(name: str, values: NDArray[Any]) -> tuple[onnx.TensorProto, list[NodeProto]]:
    """Store a constant, the largest as small integers and what makes the constant of them."""
    if values.size < _LEAST_VALUES or values.dtype not in (np.float32, np.int32, np.int64):
        return numpy_helper.from_array(values, name), []
    steps = np.ones(1, dtype=np.float32)
    if values.dtype == np.float32:
        steps = _steps(values if values.ndim > 1 else values[:, None])
    integers = values / steps if values.dtype == np.float32 else values
    fitting = [kind for kind in _INTEGERS if _fits(integers, kind)]
    if not fitting:
        return numpy_helper.from_array(values, name), []
    narrow = integers.astype(fitting[0])
    stored, to = f"{name}.integers", helper.np_dtype_to_tensor_dtype(values.dtype)
    if (steps == 1.0).all():
        return numpy_helper.from_array(narrow, stored), [helper.make_node("Cast", [stored], [name], to=to)]
    factor = helper.make_node("Constant", [], [f"{name}.steps"], value=numpy_helper.from_array(steps))
    cast = helper.make_node("Cast", [stored], [f"{name}.cast"], to=to)
    product = helper.make_node("Mul", [f"{name}.cast", f"{name}.steps"], [name])
    return numpy_helper.from_array(narrow, stored), [factor, cast, product]


def _fits(values: NDArray[Any], kind: type[np.signedinteger[Any]]) -> bool:
    """Tell whether values are integers of a type."""
    limits = np.iinfo(kind)
    return bool(((values >= limits.min) & (values <= limits.max) & (values == np.floor(values))).all())


def _steps(values: Float32[np.ndarray, "*rows columns"]) -> Float32[np.ndarray, " columns"]:
    """Give the largest power of 2 of each column that all its values are multiples of; 1 for zeros."""
    mantissas, exponents = np.frexp(values.reshape(-1, values.shape[-1]))
    whole = (mantissas.astype(np.float64) * 2.0**_MANTISSA_BITS).astype(np.int64)
    lowest: Int[np.ndarray, "rows columns"] = whole & -whole
    bits = np.frexp(np.maximum(lowest, 1).astype(np.float64))[1] - 1 + exponents - _MANTISSA_BITS
    least = bits.min(axis=0, where=whole != 0, initial=_NO_BIT)
    return np.exp2(np.where(least == _NO_BIT, 0, least)).astype(np.float32)


def _number_names(graph: onnx.GraphProto) -> None:
    """Call all tensors but inputs and outputs by numbers, and operations by nothing: a third of a file are names."""
    kept = {tensor.name for tensor in (*graph.input, *graph.output)} | {""}
    numbers: dict[str, str] = {}
    for tensor in graph.initializer:
        tensor.name = numbers.setdefault(tensor.name, str(len(numbers)))
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [name if name in kept else numbers.setdefault(name, str(len(numbers))) for name in names]
