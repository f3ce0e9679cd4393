"""Devices and runs; the paths of a GPU are taken by the CPU provider, or by what records the asking."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from artifact.errors import SignatureError, UnknownVariantError
from artifact.manifest import Graph, Manifest, Tensor, Variant
from artifact.store import Store
from service.engine import binding, devices, driver, runtime
from service.engine.binding import Binding, Recorder
from service.engine.devices import DeviceReport, GpuOptions, engine_folder, profile_shapes, provider_list
from service.engine.driver import Driver
from service.engine.engine import Engine
from service.engine.precision import choose_variant
from service.engine.runtime import Session, choose_device
from service.errors import DeviceError
from service.settings import Settings
from tests.service.gpus import FakeLibrary
from tests.service.serving import with_engine

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def fake_driver(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library = FakeLibrary()
    monkeypatch.setattr(Driver, "load", lambda: Driver(library))
    return library


GPU = GpuOptions(device_id=1, mem_limit_bytes=10**9, cuda_graphs=True, engine_cache=Path("cache"), fp16=True)
CUDA_OPTIONS = {
    "device_id": "1",
    "use_tf32": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "gpu_mem_limit": "1000000000",
}
TENSORRT_OPTIONS = {
    "device_id": "1",
    "trt_fp16_enable": "1",
    "trt_engine_cache_enable": "1",
    "trt_engine_cache_path": "cache",
    "trt_timing_cache_enable": "1",
    "trt_timing_cache_path": "cache",
}
SHAPES = {"trt_profile_min_shapes": "", "trt_profile_opt_shapes": "", "trt_profile_max_shapes": ""}


def test_onnx_runtime_is_asked_for_the_providers_in_order() -> None:
    assert provider_list("cpu", GPU) == [CPU]
    assert provider_list("cuda", GPU) == [(CUDA, CUDA_OPTIONS | {"enable_cuda_graph": "1"}), CPU]
    plain = provider_list("tensorrt", GPU, SHAPES)
    assert plain == [(TENSORRT, TENSORRT_OPTIONS | SHAPES), (CUDA, CUDA_OPTIONS), CPU]
    (name, options), _, _ = provider_list("tensorrt", GpuOptions())
    assert (name, options) == (TENSORRT, {"device_id": "0", "trt_fp16_enable": "0"})
    assert "gpu_mem_limit" not in provider_list("cuda", GpuOptions())[0][1]


@pytest.mark.parametrize("library", ["cuda", "tensorrt"])
def test_the_providers_know_the_options(library: str) -> None:
    """The names stand in the provider's own binary, which refuses others only where there is a GPU."""
    path = Path(onnxruntime.__path__[0], "capi", f"libonnxruntime_providers_{library}.so")
    if not path.exists():
        pytest.skip("this ONNX Runtime is built without GPUs")
    options = CUDA_OPTIONS | {"enable_cuda_graph": "1"} if library == "cuda" else TENSORRT_OPTIONS | SHAPES
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary:
        missing = [name for name in options if binary.find(f"{name}\0".encode()) < 0]
        assert not missing


def test_the_settings_become_options(settings: Settings, tmp_path: Path) -> None:
    changes = {"device": "tensorrt", "device_id": 3, "cuda_graphs": True, "precision": "fp16", "store": tmp_path}
    gpu = GpuOptions.of(settings.model_copy(update=changes | {"gpu_mem_limit_bytes": 5}))
    assert gpu == GpuOptions(3, 5, True, tmp_path / ".profiles" / "tensorrt", True)
    assert gpu.engine_cache is not None
    assert gpu.engine_cache.is_dir()
    assert GpuOptions.of(settings) == GpuOptions()


def test_engines_that_cannot_be_kept_are_built_anew(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert engine_folder(settings.model_copy(update={"engine_cache": tmp_path / "file" / "folder"})) is None
    assert "set LATENTD_ENGINE_CACHE" in caplog.text
    monkeypatch.setattr(devices.os, "access", lambda *_: False)
    assert engine_folder(settings.model_copy(update={"engine_cache": tmp_path / "folder"})) is None


def test_tensorrt_is_told_the_shapes_where_they_are_bounded() -> None:
    def tensor(name: str, *shape: int | str) -> Tensor:
        return Tensor(name=name, dtype="float32", shape=shape, unit="none")

    def graph(*inputs: Tensor) -> Graph:
        return Graph(file="a.onnx", sha256="0" * 64, opset=20, inputs=inputs, outputs=())

    bounded = graph(tensor("x", "B", 8, 8, 1), tensor("noise", "B", "S", 3))
    assert profile_shapes(bounded, {"B": 16, "S": 32}) == {
        "trt_profile_min_shapes": "x:1x8x8x1,noise:1x1x3",
        "trt_profile_opt_shapes": "x:16x8x8x1,noise:16x32x3",
        "trt_profile_max_shapes": "x:16x8x8x1,noise:16x32x3",
    }
    assert profile_shapes(graph(tensor("x", "B", "H", "W", 3)), {"B": 16}) == {}
    assert profile_shapes(graph(tensor("x", 1, 2)), {"B": 16}) == {}


@pytest.fixture
def probe(store_root: Path) -> Path:
    return store_root / "toy-binary" / "1" / "encode.onnx"


class FakeSessions:
    """What stands in for ONNX Runtime's sessions: sessions of the CPU that say what they were asked for.

    Args:
        working: providers that work.
        refusing: raise where this stands in the options.
    """

    def __init__(self, *working: str, refusing: str = "") -> None:
        self.working, self.refusing = {*working, CPU}, refusing
        self.asked: list[list[Any]] = []
        self.real = onnxruntime.InferenceSession

    def __call__(self, path: Path, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        self.asked.append(providers)
        assert not enable_fallback
        if self.refusing and self.refusing in str(providers):
            raise RuntimeError(f"{self.refusing} is refused")
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        session = self.real(path, options, providers=[CPU])
        session.get_providers = lambda: [name for name in names if name in self.working]
        return session


@pytest.fixture
def gpu_sessions(monkeypatch: pytest.MonkeyPatch, fake_driver: FakeLibrary) -> FakeSessions:
    """Let CUDA seem to work: the GPU's sessions, tensors and memory are the CPU's."""
    sessions = FakeSessions(CUDA)
    monkeypatch.setattr(onnxruntime, "InferenceSession", sessions)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(runtime, "_preload", lambda _: "")
    monkeypatch.setattr(runtime, "_GPU", "cpu")
    driver.locked_pool.cache_clear()
    return sessions


def test_the_device_is_chosen_by_trying(gpu_sessions: FakeSessions, fake_driver: FakeLibrary, probe: Path) -> None:
    assert choose_device("cpu", probe) == DeviceReport("cpu", "cpu", "the settings ask for the CPU")
    assert choose_device("cuda", probe).provider == "cuda"
    assert choose_device("auto", probe, GpuOptions(device_id=1)) == DeviceReport("auto", "cuda", "CUDA works", 1)
    assert gpu_sessions.asked[-1][0][1]["device_id"] == "1"
    with pytest.raises(DeviceError, match="there are 2 GPUs, and LATENTD_DEVICE_ID is 2"):
        choose_device("cuda", probe, GpuOptions(device_id=2))


def test_tensorrt_falls_back_to_cuda_then_to_the_cpu(gpu_sessions: FakeSessions, probe: Path) -> None:
    report = choose_device("tensorrt", probe)
    assert report.provider == "cuda"
    assert report.reason.startswith("TensorRT does not work: its provider did not initialise")
    assert report.reason.endswith("CUDA works")
    gpu_sessions.working = {CPU}
    report = choose_device("tensorrt", probe)
    assert report.provider == "cpu"
    assert "TensorRT does not work" in report.reason
    assert "CUDA does not work" in report.reason
    gpu_sessions.working = {TENSORRT, CUDA, CPU}
    assert choose_device("tensorrt", probe).provider == "tensorrt"


def test_a_provider_that_silently_falls_back_is_noticed(
    gpu_sessions: FakeSessions, probe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that can be loaded, a provider that is listed, and a session that runs on the CPU all the same."""
    gpu_sessions.working = {CPU}
    monkeypatch.setattr(runtime, "_preload", lambda _: "libcudnn.so.9 is missing")
    report = choose_device("auto", probe)
    assert report.provider == "cpu"
    assert "libcudnn.so.9 is missing; install onnxruntime-gpu with its extras" in report.reason
    gpu_sessions.refusing = "use_tf32"
    with pytest.raises(DeviceError, match="demanded and does not work: use_tf32 is refused"):
        choose_device("cuda", probe)


def test_auto_falls_back_and_says_why(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libnothing-of-this-name.so.1")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    Driver.load.cache_clear()

    async def body(engine: Engine) -> None:
        assert engine.device.provider == "cpu"
        assert "no NVIDIA driver" in engine.device.reason

    with_engine(settings.model_copy(update={"device": "auto"}), body)


def test_nothing_computes_in_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("libcublas.so is missing"))
    assert runtime._preload("tensorrt") == "libcublas.so is missing"
    assert runtime.os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def session_of(store: Path, role: str, **options: Any) -> Session:
    artifact = Store(store).open("toy-colour")
    return Session(artifact.file(role), role, artifact.manifest.graphs[role], threads=1, **options)


@pytest.fixture
def images(toy_references: Any) -> np.ndarray:
    return toy_references["toy-colour"].images(4)


def test_on_the_cpu_a_run_is_numpys_and_keeps_arrays(store_root: Path, toy_references: Any, images: np.ndarray) -> None:
    session = session_of(store_root, "encode", provider="cpu")
    staged = session.empty(images.shape, np.uint8)
    staged[...] = images
    found = session.run({"x": staged}, keep=("mean",))
    np.testing.assert_allclose(found["mean"], toy_references["toy-colour"].encode(images)[0], rtol=1e-4, atol=1e-4)
    copy = session.host(found["mean"])
    copy[...] = 0
    assert np.any(found["mean"]), "a copy"


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_on_a_gpu_a_run_is_numpys(
    gpu_sessions: FakeSessions,
    fake_driver: FakeLibrary,
    store_root: Path,
    toy_references: Any,
    images: np.ndarray,
    *,
    cuda_graphs: bool,
) -> None:
    toy = toy_references["toy-colour"]
    gpu = GpuOptions(cuda_graphs=cuda_graphs)
    encode = session_of(store_root, "encode", provider="cuda", gpu=gpu)
    decode = session_of(store_root, "decode", provider="cuda", gpu=gpu)
    staged = encode.empty(images.shape, np.uint8)
    assert staged.ctypes.data in fake_driver.locked
    answers = []
    for turn in range(4):
        staged[...] = np.roll(images, turn, axis=0)
        answers.append(encode.run({"x": staged}))
    for turn, answer in enumerate(answers):
        mean, log_variance = toy.encode(np.roll(images, turn, axis=0))
        np.testing.assert_allclose(answer["mean"], mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(answer["log_variance"], log_variance, rtol=1e-4, atol=1e-4)
    kept = encode.run({"x": images}, keep=("mean",))
    after = encode.run({"x": images[::-1]}, keep=("mean",))
    assert isinstance(kept["mean"], onnxruntime.OrtValue)
    assert isinstance(kept["log_variance"], np.ndarray)
    copy = encode.host(kept["mean"])
    np.testing.assert_allclose(copy, toy.encode(images)[0], rtol=1e-4, atol=1e-4)
    copy[...] = 0
    for latents, originals in ((kept, images), (after, images[::-1])):
        decoded = decode.run({"z": latents["mean"]})["mean"]
        expected = toy.decode(toy.encode(originals)[0])
        assert np.abs(decoded - np.clip(expected, 0, 255)).max() <= 0.51
    assert encode.run({"x": images[:1]})["mean"].shape == (1, 3)


def test_outputs_are_written_where_the_device_writes_fast(store_root: Path, probe: Path, images: np.ndarray) -> None:
    """From the second run of a shape on, without a copy between."""
    session = session_of(store_root, "encode", provider="cpu")
    made: list[np.ndarray] = []

    def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        made.append(np.empty(shape, dtype))
        return made[-1]

    bound = Binding(session._session, "cpu", 0, empty)
    first = bound.run(("mean", "log_variance"), {"x": images})
    assert not made
    second = bound.run(("mean", "log_variance"), {"x": images}, keep=("log_variance",))
    assert [each is second["mean"] for each in made] == [True]
    np.testing.assert_array_equal(first["mean"], second["mean"])
    bound.run(("mean",), {"x": images[:2]})
    assert len(made) == 1, "another shape"


class Recorded:
    """A session that notes which CUDA graph each run names."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.graphs: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, bound: Any, options: Any) -> None:
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(bound, options)


def test_each_shape_has_a_cuda_graph_up_to_a_bound(
    store_root: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Recorded(session_of(store_root, "encode", provider="cpu")._session)
    recorder = Recorder(session, "cpu", 0, ("mean",), Binding(session, "cpu", 0, np.empty))
    monkeypatch.setattr(binding, "_RECORDED_SHAPES", 2)
    for rows in (4, 4, 2, 4, 2, 1, 1):
        recorder.run({"x": images[:rows]})
    assert session.graphs == ["-1", "1", "1", "-1", "2", "1", "2", "-1", "-1"]


def test_a_graph_that_a_gpu_cannot_take_whole_runs_with_less(
    gpu_sessions: FakeSessions, store_root: Path, images: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    gpu_sessions.refusing = "enable_cuda_graph"
    session = session_of(store_root, "encode", provider="cuda", gpu=GpuOptions(cuda_graphs=True))
    assert session.provider == "cuda"
    assert "runs without CUDA graphs, which cannot take it: enable_cuda_graph is refused" in caplog.text
    gpu_sessions.working = {TENSORRT, CUDA, CPU}
    gpu_sessions.refusing = "trt_profile_max_shapes"
    session = session_of(store_root, "encode", provider="tensorrt", largest={"B": 8})
    assert session.provider == "cuda"
    assert "runs without TensorRT" in caplog.text
    assert session.run({"x": images})["mean"].shape == (4, 3)
    gpu_sessions.refusing = "use_tf32"
    with pytest.raises(SignatureError, match="cannot load"):
        session_of(store_root, "encode", provider="cuda")
    gpu_sessions.refusing, gpu_sessions.working = "", {CPU}
    with pytest.raises(DeviceError, match="CUDA did not initialise"):
        session_of(store_root, "encode", provider="cuda")


def test_the_memory_of_the_chosen_gpu_is_given_back(gpu_sessions: FakeSessions, store_root: Path, probe: Path) -> None:
    session = session_of(store_root, "encode", provider="cuda", gpu=GpuOptions(device_id=1))
    assert session._give_back.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "gpu:1"


def test_a_variant_runs_where_it_is_asked_for(store_root: Path) -> None:
    manifest = Store(store_root).open("toy-colour").manifest
    variant = Variant(graphs={"encode": manifest.graphs["encode"]}, parity=manifest.parity)
    halved: Manifest = manifest.model_copy(update={"variants": {"fp16": variant}})
    assert choose_variant(halved, "fp32", "cuda") is None
    assert choose_variant(halved, "fp16", "cpu") == "fp16"
    assert choose_variant(halved, "auto", "cuda") == "fp16"
    assert choose_variant(halved, "auto", "cpu") is None
    assert choose_variant(manifest, "auto", "tensorrt") is None
    with pytest.raises(UnknownVariantError, match="toy-colour has no variant 'fp16'"):
        choose_variant(manifest, "fp16", "cuda")
