"""What the graphs run on: the choice with its reason, and what ONNX Runtime is told of the device."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from artifact.manifest import Graph
from service.engine.driver import Driver
from service.errors import DeviceError
from service.settings import Device, Settings

_LOG = logging.getLogger(__name__)

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""The providers by ONNX Runtime's names."""

TITLES: dict[Provider, str] = {"cpu": "the CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}
"""The providers in sentences."""

CANDIDATES: dict[Device, tuple[Provider, ...]] = {
    "auto": ("cuda",),
    "cpu": (),
    "cuda": ("cuda",),
    "tensorrt": ("tensorrt", "cuda"),
}
"""What is tried for each wish before the CPU. TensorRT builds for minutes, so that nobody gets it unasked."""

_ENGINE_FOLDER = Path(".profiles", "tensorrt")


@dataclass(frozen=True)
class DeviceReport:
    """What the graphs run on, and why.

    Attributes:
        requested: what the settings asked for.
        provider: what it became.
        reason: a sentence for the log and for `/readyz`.
        device_id: which GPU, where it is one.
    """

    requested: Device
    provider: Provider
    reason: str
    device_id: int = 0

    def hardware(self) -> str | None:
        """Name the device; None for the CPU, and where the driver does not tell."""
        if self.provider == "cpu":
            return None
        try:
            return Driver.load().name(self.device_id)
        except DeviceError as error:
            _LOG.debug("the name of GPU %d is not known: %s", self.device_id, error)
            return None

    def memory(self) -> tuple[int, int] | None:
        """Ask how full the device is.

        Returns:
            Bytes used, by whomever, and bytes in all; None for the CPU, and where the driver does not tell.
        """
        if self.provider == "cpu":
            return None
        try:
            return Driver.load().memory(self.device_id)
        except DeviceError as error:
            _LOG.debug("the memory of GPU %d is not known: %s", self.device_id, error)
            return None


@dataclass(frozen=True)
class GpuOptions:
    """How a GPU is used; a CPU does not look at it.

    Attributes:
        device_id: which one, of those that the process sees.
        mem_limit_bytes: most memory of one graph's runs; 0 for no limit.
        cuda_graphs: record the launches of each shape once, and replay them.
        engine_cache: where TensorRT keeps what it has built; None where nothing can be kept.
        fp16: whether TensorRT may compute in half precision.
    """

    device_id: int = 0
    mem_limit_bytes: int = 0
    cuda_graphs: bool = False
    engine_cache: Path | None = None
    fp16: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "GpuOptions":
        """Take what the settings say."""
        return cls(
            settings.device_id,
            settings.gpu_mem_limit_bytes,
            settings.cuda_graphs,
            engine_folder(settings) if settings.device == "tensorrt" else None,
            settings.precision == "fp16",
        )


def engine_folder(settings: Settings) -> Path | None:
    """Make the folder in which TensorRT keeps its engines, where it can be made and written."""
    folder = settings.engine_cache or settings.store / _ENGINE_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _LOG.warning("TensorRT builds at each start: %s cannot be made: %s; set LATENTD_ENGINE_CACHE", folder, error)
        return None
    if not os.access(folder, os.W_OK):
        _LOG.warning("TensorRT builds at each start: %s cannot be written; set LATENTD_ENGINE_CACHE", folder)
        return None
    return folder


def provider_list(
    provider: Provider, gpu: GpuOptions, shapes: Mapping[str, str] | None = None
) -> list[str | tuple[str, dict[str, str]]]:
    """Say what ONNX Runtime shall run a graph on, the first that can run a node first.

    Args:
        provider: the chosen one.
        gpu: how it is used.
        shapes: TensorRT's profile of them; see `profile_shapes`.
    """
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    cuda = (PROVIDERS["cuda"], _cuda_options(gpu, cuda_graphs=gpu.cuda_graphs and provider == "cuda"))
    if provider == "cuda":
        return [cuda, PROVIDERS["cpu"]]
    return [(PROVIDERS["tensorrt"], _tensorrt_options(gpu) | dict(shapes or {})), cuda, PROVIDERS["cpu"]]


def _cuda_options(gpu: GpuOptions, *, cuda_graphs: bool) -> dict[str, str]:
    # TF32 keeps ten bits of mantissa, too few for the agreed parity. The exhaustive search would time every convolution
    # algorithm anew for each shape. Doubling the arena, which is the default, would take most of a GPU for nothing.
    options = {
        "device_id": str(gpu.device_id),
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    if gpu.mem_limit_bytes:
        options["gpu_mem_limit"] = str(gpu.mem_limit_bytes)
    if cuda_graphs:
        options["enable_cuda_graph"] = "1"
    return options


def _tensorrt_options(gpu: GpuOptions) -> dict[str, str]:
    options = {"device_id": str(gpu.device_id), "trt_fp16_enable": str(int(gpu.fp16))}
    if gpu.engine_cache is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(gpu.engine_cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(gpu.engine_cache),
        }
    return options


def profile_shapes(graph: Graph, largest: Mapping[str, int]) -> dict[str, str]:
    """Tell TensorRT the shapes that will come, so that it builds one engine for all of them.

    Args:
        graph: what the manifest declares of it.
        largest: the largest size of each symbolic axis, such as `{"B": 128}`; it is what the engine is made for.

    Returns:
        Options of the provider; none where the size of an axis is not bounded (pictures of any size), and TensorRT
        builds anew for shapes beyond those seen.
    """
    axes = {axis for tensor in graph.inputs for axis in tensor.shape if isinstance(axis, str)}
    if not axes or not axes <= largest.keys():
        return {}

    def write(sizes: Mapping[str, int]) -> str:
        shapes = {
            tensor.name: [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
            for tensor in graph.inputs
        }
        return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())

    most = write(largest)
    return {
        "trt_profile_min_shapes": write(dict.fromkeys(axes, 1)),
        "trt_profile_opt_shapes": most,
        "trt_profile_max_shapes": most,
    }
