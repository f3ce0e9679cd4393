"""One external weight file for several ONNX graphs, in which equal tensors stand once."""

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper

_SMALLEST_BYTES = 1024
"""Smaller tensors stay in the graph, where the runtime folds them."""
_ALIGNMENT = 64


def write_shared(graphs: dict[Path, onnx.ModelProto], weights: Path) -> None:
    """Write graphs whose large tensors lie in one file beside them.

    Args:
        graphs: by the path of the file to write.
        weights: the shared file, in the same folder.
    """
    places: dict[str, tuple[int, int]] = {}
    with weights.open("wb") as file:
        for path, graph in graphs.items():
            for tensor in graph.graph.initializer:
                content = _content(tensor)
                if len(content) < _SMALLEST_BYTES:
                    continue
                key = hashlib.sha256(content).hexdigest()
                if key not in places:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    places[key] = (file.tell(), len(content))
                    file.write(content)
                offset, length = places[key]
                tensor.raw_data = content
                external_data_helper.set_external_data(tensor, weights.name, offset, length)
                tensor.ClearField("raw_data")
            path.write_bytes(graph.SerializeToString())


def _content(tensor: TensorProto) -> bytes:
    """Give a tensor's elements as ONNX stores them raw: little-endian, row-major."""
    return bytes(onnx.numpy_helper.to_array(tensor).tobytes())
