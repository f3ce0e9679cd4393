"""Fewer operations that only move or look up integers: in a step of a tenth of a millisecond each of them counts."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

Constants = dict[str, NDArray[Any]]


def shorten(model: onnx.ModelProto) -> None:
    """Leave operations out, in place; all that is given stays the same.

    - Tables of one column become lists, and what is looked up needs no axis taken away.
    - A number that is cast to an integer once it was clipped from 0 on needs no floor before: the cast does the same.
    - Slices that a tensor is cut into without a rest become one split.

    Args:
        model: a graph in exact integers, as it was folded by the exporter.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    sides = _sides(model)
    nodes = list(model.graph.node)
    made = {output: node for node in nodes for output in node.output}
    uses = Counter(name for node in nodes for name in node.input)
    kept = []
    for node in nodes:
        if node.op_type == "Cast":
            _drop_floor(node, made, uses, constants)
        if node.op_type != "Squeeze" or not _looks_up_numbers(node, made, uses, constants):
            kept.append(node)
    nodes = _split(kept, sides, constants)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())


def _looks_up_numbers(node: NodeProto, made: dict[str, NodeProto], uses: Counter[str], constants: Constants) -> bool:
    """Turn a look into a table of one column, whose axis is then taken away, into a look into a list, where it is."""
    gather = made.get(node.input[0])
    if gather is None or gather.op_type != "Gather" or uses[gather.output[0]] != 1:
        return False
    table, axis = constants.get(gather.input[0]), _option(gather, "axis", 0)
    if table is None or table.ndim != 2 or table.shape[1] != 1 or axis != 0:
        return False
    constants[f"{gather.input[0]}.list"] = table[:, 0]
    gather.input[0], gather.output[0] = f"{gather.input[0]}.list", node.output[0]
    return True


def _drop_floor(node: NodeProto, made: dict[str, NodeProto], uses: Counter[str], constants: Constants) -> None:
    """Leave out the floor of floor(x) + whole number, clipped from 0 or more, that is cast to an integer."""
    clip = made.get(node.input[0])
    if _option(node, "to", 0) != TensorProto.INT64 or clip is None or clip.op_type != "Clip":
        return
    least, shift = constants.get(clip.input[1]), made.get(clip.input[0])
    if least is None or least.min() < 0 or shift is None or shift.op_type != "Add":
        return
    floor, number = made.get(shift.input[0]), constants.get(shift.input[1])
    if floor is None or floor.op_type != "Floor" or number is None or (number != np.floor(number)).any():
        return
    if all(uses[one.output[0]] == 1 for one in (floor, shift, clip)):
        shift.input[0] = floor.input[0]


def _split(nodes: list[NodeProto], sides: dict[str, tuple[int, ...]], constants: Constants) -> list[NodeProto]:
    """Replace slices that cut a tensor into parts, one after the other, by one split."""
    slices: defaultdict[tuple[str, int], list[tuple[int, int, NodeProto]]] = defaultdict(list)
    for node in nodes:
        cut = _cut(node, sides, constants)
        if cut is not None:
            axis, start, end = cut
            slices[node.input[0], axis].append((start, end, node))
    first: dict[int, NodeProto] = {}
    dropped: set[int] = set()
    for (name, axis), parts in slices.items():
        parts.sort(key=lambda part: part[0])
        borders = [0, *(end for _, end, _ in parts)]
        if len(parts) < 2 or [start for start, _, _ in parts] != borders[:-1] or borders[-1] != sides[name][axis]:
            continue
        constants[f"{name}.{axis}.parts"] = np.diff(borders).astype(np.int64)
        outputs = [node.output[0] for _, _, node in parts]
        earliest = next(id(node) for node in nodes if node.output[0] in outputs)
        first[earliest] = helper.make_node("Split", [name, f"{name}.{axis}.parts"], outputs, axis=axis)
        dropped |= {id(node) for _, _, node in parts}
    return [first.get(id(node), node) for node in nodes if id(node) not in dropped or id(node) in first]


def _cut(node: NodeProto, sides: dict[str, tuple[int, ...]], constants: Constants) -> tuple[int, int, int] | None:
    """Give the axis, the start and the end of a slice along one axis of known length, without gaps; else None."""
    if node.op_type != "Slice" or len(node.input) < 4 or node.input[0] not in sides:
        return None
    start, end, axis, *step = (constants.get(name) for name in node.input[1:])
    if start is None or end is None or axis is None or start.size != 1 or (step and (step[0] is None or step[0] != 1)):
        return None
    shape = sides[node.input[0]]
    place = int(axis[0]) % len(shape)
    if shape[place] <= 0 or start[0] < 0 or end[0] < 0:
        return None
    return place, int(start[0]), min(int(end[0]), shape[place])


def _sides(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Give the shapes of tensors, 0 where a side is not known."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }


def _option(node: NodeProto, name: str, default: int) -> int:
    """Give an attribute that is an integer."""
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
