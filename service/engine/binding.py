"""Runs on a GPU: tensors bound where they lie, results copied once, and launches that are recorded and replayed."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

Values = Mapping[str, Any]
"""Tensors by name: numpy arrays, or what a run has kept on the device."""

Signature = tuple[tuple[str, tuple[int, ...], str], ...]
Empty = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]

ELEMENTS = {
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
"""ONNX Runtime's element types by numpy's names."""

_KNOWN_SHAPES = 256
_RECORDED_SHAPES = 64
_GRAPH_ID = "gpu_graph_id"
_NO_GRAPH = "-1"


def host_copy(value: Any) -> NDArray[Any]:
    """Give a copy of a tensor in host memory, which may be written.

    Args:
        value: a numpy array, or what a run has kept on the device.
    """
    if isinstance(value, np.ndarray):
        return value.copy()
    array: NDArray[Any] = value.numpy()
    # On a CPU it is the tensor's own memory.
    return array if array.flags.owndata else array.copy()


class Binding:
    """Runs of one session with inputs and outputs bound.

    The first run of each input shape finds the shapes of the outputs; from then on they are written into memory of
    `empty` without a copy between.

    Args:
        session: ONNX Runtime's.
        device: ONNX Runtime's name of what it runs on.
        device_id: which of them.
        empty: allocates host memory that the device writes fast.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str, device_id: int, empty: Empty) -> None:
        self._session = session
        self._device = (device, device_id)
        self._empty = empty
        self._known: OrderedDict[Signature, dict[str, tuple[tuple[int, ...], DTypeLike]]] = OrderedDict()

    def run(
        self,
        outputs: Sequence[str],
        feeds: Values,
        *,
        keep: Sequence[str] = (),
        options: onnxruntime.RunOptions | None = None,
    ) -> dict[str, Any]:
        """Run the graph once; blocks until it is done.

        Args:
            outputs: names of what is wanted.
            feeds: every input by name.
            keep: outputs that stay on the device.
            options: ONNX Runtime's, of this run.

        Returns:
            The outputs by name.
        """
        key = signature(feeds)
        known = self._known.get(key, {})
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
            else:
                binding.bind_ortvalue_input(name, value)
        hosts = {name: self._empty(*known[name]) for name in outputs if name in known and name not in keep}
        for name in outputs:
            if (host := hosts.get(name)) is not None:
                binding.bind_output(name, "cpu", 0, host.dtype, host.shape, host.ctypes.data)
            else:
                binding.bind_output(name, *self._device)
        self._session.run_with_iobinding(binding, options)
        results: dict[str, Any] = dict(zip(outputs, binding.get_outputs(), strict=True))
        for name in outputs:
            if name not in keep:
                results[name] = hosts[name] if name in hosts else host_copy(results[name])
        self._remember(key, {name: each for name, each in results.items() if name not in keep})
        return results

    def _remember(self, key: Signature, results: Mapping[str, NDArray[Any]]) -> None:
        """Keep the shapes of outputs for the next run of these inputs."""
        self._known[key] = self._known.get(key, {}) | {name: (each.shape, each.dtype) for name, each in results.items()}
        while len(self._known) > _KNOWN_SHAPES:
            self._known.popitem(last=False)


@dataclass(frozen=True)
class _Recording:
    """One input shape: tensors on the device at addresses that never change, and the launches between them."""

    binding: onnxruntime.IOBinding
    inputs: dict[str, onnxruntime.OrtValue]
    outputs: dict[str, onnxruntime.OrtValue]
    options: onnxruntime.RunOptions


class Recorder:
    """Runs of one session through CUDA graphs, one for each input shape.

    ONNX Runtime records a graph in each thread that runs it; the tensors are common to them, so runs take turns.

    Args:
        session: ONNX Runtime's, made with `enable_cuda_graph`.
        device: ONNX Runtime's name of what it runs on.
        device_id: which of them.
        outputs: names of what is wanted, in every run the same.
        binding: runs what is not recorded, which is the first run of a shape and all shapes beyond a bound.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        device: str,
        device_id: int,
        outputs: Sequence[str],
        binding: Binding,
    ) -> None:
        self._session = session
        self._device = (device, device_id)
        self._outputs = outputs
        self._binding = binding
        self._recordings: dict[Signature, _Recording] = {}
        self._unrecorded = onnxruntime.RunOptions()
        self._unrecorded.add_run_config_entry(_GRAPH_ID, _NO_GRAPH)
        self._turn = threading.Lock()

    def run(self, feeds: Values, *, keep: Sequence[str] = ()) -> dict[str, Any]:
        """Run the graph once; blocks until it is done.

        Args:
            feeds: every input by name.
            keep: outputs that stay on the device.

        Returns:
            The outputs by name.
        """
        key = signature(feeds)
        with self._turn:
            if (recording := self._recordings.get(key)) is not None:
                return self._replay(recording, feeds, keep)
            results = self._binding.run(
                self._outputs, feeds, keep=self._outputs if self._has_room else keep, options=self._unrecorded
            )
            if not self._has_room:
                return results
            recording = self._recordings[key] = self._record(feeds, results)
            return self._replay(recording, feeds, keep)

    @property
    def _has_room(self) -> bool:
        return len(self._recordings) < _RECORDED_SHAPES

    def _record(self, feeds: Values, results: Values) -> _Recording:
        """Make the tensors of a shape; the first run between them is recorded."""
        binding = self._session.io_binding()
        inputs = {name: self._like(value) for name, value in feeds.items()}
        outputs = {name: self._like(value) for name, value in results.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry(_GRAPH_ID, str(len(self._recordings) + 1))
        return _Recording(binding, inputs, outputs, options)

    def _replay(self, recording: _Recording, feeds: Values, keep: Sequence[str]) -> dict[str, Any]:
        """Copy the inputs in, run, and copy the outputs out."""
        for name, value in feeds.items():
            recording.inputs[name].update_inplace(value)
        self._session.run_with_iobinding(recording.binding, recording.options)
        return {
            name: self._clone(value) if name in keep else host_copy(value) for name, value in recording.outputs.items()
        }

    def _like(self, value: Any) -> onnxruntime.OrtValue:
        """Make a tensor on the device with the shape and element type of another."""
        shape, element = _shape(value), value.dtype if isinstance(value, np.ndarray) else value.element_type()
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, element, *self._device)

    def _clone(self, value: onnxruntime.OrtValue) -> onnxruntime.OrtValue:
        """Copy a tensor that the next run overwrites."""
        clone = self._like(value)
        clone.update_inplace(value)
        return clone


def signature(feeds: Values) -> Signature:
    """Tell the shapes and element types of inputs."""
    return tuple((name, _shape(value), _element(value)) for name, value in feeds.items())


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape if isinstance(value, np.ndarray) else value.shape())


def _element(value: Any) -> str:
    return value.dtype.name if isinstance(value, np.ndarray) else ELEMENTS.get(value.data_type(), value.data_type())
