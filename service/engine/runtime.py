"""ONNX Runtime's one home in the service: choosing the device, loading a graph, running it."""

import contextlib
import ctypes
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnxruntime
from numpy.typing import NDArray

from artifact.errors import SignatureError
from artifact.manifest import DType, Graph
from service.errors import DeviceError
from service.settings import Device

Provider = Literal["cuda", "cpu"]
Arrays = dict[str, NDArray[Any]]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# TF32 keeps ten bits of mantissa, too few for the agreed parity; the exhaustive search would time every
# convolution algorithm anew for each shape.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_DRIVER = "libcuda.so.1"
_ERROR_SEVERITY = 3
_DTYPES: dict[str, DType] = {
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


@dataclass(frozen=True)
class DeviceReport:
    """What the graphs run on, and why.

    Attributes:
        requested: what the settings asked for.
        provider: what it became.
        reason: a sentence for the log and for `/readyz`.
    """

    requested: Device
    provider: Provider
    reason: str


def choose_device(requested: Device, probe: Path) -> DeviceReport:
    """Decide what the graphs run on, by trying it.

    Args:
        requested: `cpu`, `cuda`, or `auto` for CUDA where it works.
        probe: an ONNX file that is loaded on CUDA to see whether it works.

    Returns:
        The choice with its reason.

    Raises:
        DeviceError: `cuda` is demanded and does not work.
    """
    if requested == "cpu":
        return DeviceReport(requested, "cpu", "the settings ask for the CPU")
    fault = _cuda_fault(probe)
    if fault is None:
        return DeviceReport(requested, "cuda", "CUDA works")
    if requested == "cuda":
        raise DeviceError(f"device cuda is demanded and does not work: {fault}; or set the device to cpu or auto")
    return DeviceReport(requested, "cpu", f"CUDA does not work: {fault}")


def _cuda_fault(probe: Path) -> str | None:
    """Say what keeps CUDA from working and how to mend it; None where it works."""
    if _CUDA not in onnxruntime.get_available_providers():
        return "this ONNX Runtime is built without CUDA; install onnxruntime-gpu instead of onnxruntime"
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return f"no NVIDIA driver ({_DRIVER}) was found; run on a GPU node, in a container with --gpus all"
    missing = _preload_cuda()
    try:
        session = _session(probe, "cuda", threads=1)
    except Exception as error:  # noqa: BLE001 - whatever stops the provider is the reason to report
        cause = str(error)
    else:
        if session.get_providers()[0] == _CUDA:
            return None
        cause = missing or "its provider did not initialise, as ONNX Runtime's own log line above explains"
    return f"{cause}; install onnxruntime-gpu with its extras cuda and cudnn, and a driver that fits them"


def _preload_cuda() -> str:
    """Load the CUDA libraries of the Python packages; give what ONNX Runtime prints of those it misses."""
    printed = io.StringIO()
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(printed):
            onnxruntime.preload_dlls()
    return "; ".join(printed.getvalue().splitlines())


def _session(path: Path, provider: Provider, threads: int) -> onnxruntime.InferenceSession:
    onnxruntime.set_default_logger_severity(_ERROR_SEVERITY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR_SEVERITY
    options.intra_op_num_threads = threads or available_cores()
    options.use_deterministic_compute = True
    # A thread that spins for a moment halves the latency of small runs; one that spins on burns an idle service's core.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    providers = [(_CUDA, _CUDA_OPTIONS), _CPU] if provider == "cuda" else [_CPU]
    return onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)


def runtime_version() -> str:
    """Name the version of ONNX Runtime."""
    return str(onnxruntime.__version__)


def available_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Session:
    """One graph of an artifact, loaded and checked against its manifest.

    Args:
        path: the ONNX file, its weights beside it.
        role: the graph's role, for messages.
        graph: what the manifest declares of it.
        provider: what it runs on.
        threads: of one run; 0 for as many as there are cores.
        read: the outputs that a run gives; None for all.

    Raises:
        SignatureError: the file cannot be loaded, or has other tensors than declared.
        DeviceError: the provider does not initialise.
    """

    def __init__(
        self,
        path: Path,
        role: str,
        graph: Graph,
        *,
        provider: Provider,
        threads: int,
        read: tuple[str, ...] | None = None,
    ) -> None:
        try:
            session = _session(path, provider, threads)
        except Exception as error:
            raise SignatureError(
                f"graph {role!r}: ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}; "
                "update ONNX Runtime or export the model again"
            ) from error
        if provider == "cuda" and session.get_providers()[0] != _CUDA:
            raise DeviceError(f"graph {role!r}: CUDA did not initialise for {path}; is the GPU's memory full?")
        graph.check(role, _types(session.get_inputs()), _types(session.get_outputs()))
        self._session = session
        self._give_back = _giving_back(provider)
        self._outputs = read or tuple(tensor.name for tensor in graph.outputs)

    def run(self, feeds: Arrays, *, give_back: bool = False) -> Arrays:
        """Run the graph once; blocks until it is done.

        Args:
            feeds: every input by name, axis 0 being the batch.
            give_back: give the memory of the run back, which else stays with the session for the next one.

        Returns:
            The outputs by name.
        """
        options = self._give_back if give_back else None
        return dict(zip(self._outputs, self._session.run(self._outputs, feeds, options), strict=True))


def _giving_back(provider: Provider) -> onnxruntime.RunOptions:
    """Make the options of a run that gives its memory back."""
    options = onnxruntime.RunOptions()
    devices = "gpu:0" if provider == "cuda" else "cpu:0"
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", devices)
    return options


def _types(tensors: list[Any]) -> dict[str, DType]:
    # A type that no manifest can declare goes on as ONNX Runtime names it, and fails the comparison.
    return {tensor.name: _DTYPES.get(tensor.type, tensor.type) for tensor in tensors}
