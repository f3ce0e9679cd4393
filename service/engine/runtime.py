"""ONNX Runtime's home in the service: choosing the device, loading a graph, running it."""

import contextlib
import importlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

from artifact.errors import SignatureError
from artifact.manifest import DType, Graph
from service.engine.binding import ELEMENTS, Binding, Recorder, host_copy
from service.engine.devices import (
    CANDIDATES,
    PROVIDERS,
    TITLES,
    GpuOptions,
    Provider,
    profile_shapes,
    provider_list,
)
from service.engine.devices import (
    DeviceReport as DeviceReport,
)
from service.engine.driver import Driver, locked_pool
from service.errors import DeviceError
from service.settings import Device

_LOG = logging.getLogger(__name__)

_ERROR_SEVERITY = 3
_WEIGHTS = "*.data"
_GPU = "cuda"
_CURES: dict[Provider, str] = {
    "cuda": "install onnxruntime-gpu with its extras cuda and cudnn, and a driver that fits them",
    "tensorrt": "install a TensorRT that fits onnxruntime-gpu, and what CUDA needs",
}


def choose_device(requested: Device, probe: Path, gpu: GpuOptions | None = None) -> DeviceReport:
    """Decide what the graphs run on, by trying it.

    Args:
        requested: `cpu`; `cuda`; `tensorrt`, or else CUDA, or else the CPU; or `auto` for CUDA where it works.
        probe: an ONNX file that is loaded to see whether a provider works.
        gpu: how it would be used.

    Returns:
        The choice with its reason.

    Raises:
        DeviceError: `cuda` is demanded and does not work.
    """
    if requested == "cpu":
        return DeviceReport(requested, "cpu", "the settings ask for the CPU")
    gpu = gpu or GpuOptions()
    faults: list[str] = []
    for provider in CANDIDATES[requested]:
        fault = _fault(provider, probe, gpu)
        if fault is None:
            reason = "; ".join([*faults, f"{TITLES[provider]} works"])
            return DeviceReport(requested, provider, reason, gpu.device_id)
        if requested == "cuda":
            raise DeviceError(f"device cuda is demanded and does not work: {fault}; or set the device to cpu or auto")
        faults.append(f"{TITLES[provider]} does not work: {fault}")
    return DeviceReport(requested, "cpu", "; ".join(faults))


def _fault(provider: Provider, probe: Path, gpu: GpuOptions) -> str | None:
    """Say what keeps a provider from working and how to mend it; None where it works."""
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        return f"this ONNX Runtime is built without {TITLES[provider]}; install onnxruntime-gpu instead of onnxruntime"
    try:
        gpus = Driver.load().count()
    except DeviceError as error:
        return str(error)
    if gpu.device_id >= gpus:
        return f"there are {gpus} GPUs, and LATENTD_DEVICE_ID is {gpu.device_id}; they are counted from 0"
    missing = _preload(provider)
    try:
        _open(probe, provider, gpu, threads=1)
    except DeviceError:
        cause = missing or "its provider did not initialise, as ONNX Runtime's own log line above explains"
    except Exception as error:  # noqa: BLE001 - whatever stops the provider is the reason to report
        cause = str(error)
    else:
        return None
    return f"{cause}; {_CURES[provider]}"


def _preload(provider: Provider) -> str:
    """Load the CUDA libraries of the Python packages; give what ONNX Runtime prints of those it misses."""
    # NVIDIA's libraries compute float32 in TF32 unless told otherwise, and TensorRT's provider has no option for it.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    printed = io.StringIO()
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(printed):
            onnxruntime.preload_dlls()
    if provider == "tensorrt":
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt_libs")  # loads the libraries of the Python package
    return "; ".join(printed.getvalue().splitlines())


def _open(
    path: Path, provider: Provider, gpu: GpuOptions, threads: int, shapes: Mapping[str, str] | None = None
) -> onnxruntime.InferenceSession:
    """Load a graph on just this provider.

    Raises:
        DeviceError: ONNX Runtime would run it on another one.
    """
    session = _session(path, provider_list(provider, gpu, shapes), threads)
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise DeviceError(f"{TITLES[provider]} did not initialise for {path}; is the GPU's memory full?")
    return session


def _session(path: Path, providers: Sequence[Any], threads: int) -> onnxruntime.InferenceSession:
    onnxruntime.set_default_logger_severity(_ERROR_SEVERITY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR_SEVERITY
    options.intra_op_num_threads = threads or available_cores()
    options.use_deterministic_compute = True
    # A thread that spins for a moment halves the latency of small runs; one that spins on burns an idle service's core.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    # Else the weights' files stay mapped, and whoever writes over one changes the model, or ends the process.
    weights = {file.name: file.read_bytes() for file in path.parent.glob(_WEIGHTS)}
    options.add_external_initializers_from_files_in_memory(
        list(weights), list(weights.values()), [len(content) for content in weights.values()]
    )
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
        gpu: how a GPU is used.
        largest: the largest size of each symbolic axis that is bounded, for TensorRT; see `profile_shapes`.

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
        gpu: GpuOptions | None = None,
        largest: Mapping[str, int] | None = None,
    ) -> None:
        gpu = gpu or GpuOptions()
        session, self.provider, gpu = _load(path, role, provider, gpu, threads, profile_shapes(graph, largest or {}))
        graph.check(role, _types(session.get_inputs()), _types(session.get_outputs()))
        self._session = session
        self._device_id = gpu.device_id
        self._outputs = read or tuple(tensor.name for tensor in graph.outputs)
        self._give_back = _giving_back(self.provider, gpu.device_id)
        self._binding: Binding | None = None
        self._recorder: Recorder | None = None
        if self.provider != "cpu":
            self._binding = Binding(session, _GPU, gpu.device_id, self.empty)
        if self._binding and gpu.cuda_graphs:
            self._recorder = Recorder(session, _GPU, gpu.device_id, self._outputs, self._binding)

    def run(self, feeds: Mapping[str, Any], *, give_back: bool = False, keep: Sequence[str] = ()) -> dict[str, Any]:
        """Run the graph once; blocks until it is done.

        Args:
            feeds: every input by name, axis 0 being the batch: arrays, or what an earlier run on this device has kept.
            give_back: give the memory of the run back, which else stays with the session for the next one.
            keep: outputs that stay on the device, to be fed to another run, or read by `host`.

        Returns:
            The outputs by name, arrays but for those kept.
        """
        if self._recorder is not None:
            return self._recorder.run(feeds, keep=keep)
        options = self._give_back if give_back else None
        if self._binding is not None:
            return self._binding.run(self._outputs, feeds, keep=keep, options=options)
        return dict(zip(self._outputs, self._session.run(self._outputs, feeds, options), strict=True))

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Allocate host memory from which the device reads fast; what is in it is undefined."""
        if self.provider == "cpu":
            return np.empty(shape, dtype)
        return locked_pool(self._device_id).empty(shape, dtype)

    @staticmethod
    def host(value: Any) -> NDArray[Any]:
        """Copy an output, kept or not, into host memory that may be written."""
        return host_copy(value)


def _load(
    path: Path, role: str, provider: Provider, gpu: GpuOptions, threads: int, shapes: Mapping[str, str]
) -> tuple[onnxruntime.InferenceSession, Provider, GpuOptions]:
    """Load a graph as asked, or with less where that does not work for it alone."""
    plain = replace(gpu, cuda_graphs=False)
    if provider == "tensorrt" or (provider == "cuda" and gpu.cuda_graphs):
        wish = plain if provider == "tensorrt" else gpu
        try:
            return _open(path, provider, wish, threads, shapes), provider, wish
        except Exception as error:  # noqa: BLE001 - whatever it is, plain CUDA may do
            lost = "TensorRT" if provider == "tensorrt" else "CUDA graphs"
            _LOG.warning("graph %r of %s runs without %s, which cannot take it: %s", role, path, lost, error)
            provider = "cuda"
    try:
        return _open(path, provider, plain, threads), provider, plain
    except DeviceError:
        raise
    except Exception as error:
        raise SignatureError(
            f"graph {role!r}: ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}; "
            "update ONNX Runtime or export the model again"
        ) from error


def _giving_back(provider: Provider, device_id: int) -> onnxruntime.RunOptions:
    """Make the options of a run that gives its memory back."""
    options = onnxruntime.RunOptions()
    device = "cpu:0" if provider == "cpu" else f"gpu:{device_id}"
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", device)
    return options


def _types(tensors: list[Any]) -> dict[str, DType]:
    # A type that no manifest can declare goes on as ONNX Runtime names it, and fails the comparison.
    return {tensor.name: ELEMENTS.get(tensor.type, tensor.type) for tensor in tensors}
