"""What a GPU computes, on a GPU: the same as the CPU, by every path that a run can take."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.examples import example_inputs
from artifact.golden import number_error
from artifact.manifest import DiscreteLevel
from artifact.store import Artifact, Store
from service import continuous
from service.engine.devices import GpuOptions
from service.engine.driver import LIBRARY, count_gpus
from service.engine.engine import Engine
from service.engine.runtime import Session, choose_device
from service.settings import Settings
from tests.service.serving import with_engine
from tests.toys.publish import TOYS

pytestmark = pytest.mark.gpu
if count_gpus() == 0:
    pytest.skip("there is no NVIDIA GPU, or no driver for it", allow_module_level=True)

PRETRAINED = Path(__file__).parents[2] / "pretrained"
MODELS = (*TOYS, *Store(PRETRAINED).names())
OPTIONS = {
    "plain": GpuOptions(),
    "cuda-graphs": GpuOptions(cuda_graphs=True),
    "limited": GpuOptions(mem_limit_bytes=2**30),
}
NEAR_TIES = 0.01


@pytest.fixture
def find(store_root: Path) -> Callable[[str], Artifact]:
    return lambda name: Store(store_root if name in TOYS else PRETRAINED).open(name)


def rows(artifact: Artifact, role: str, count: int, first: int = 0) -> dict[str, np.ndarray]:
    """Make so many different rows for a graph."""
    level = artifact.manifest.latent[0]
    scale = level.downsampling if isinstance(level, DiscreteLevel) else 1
    each = [example_inputs(artifact.manifest.graphs[role], scale, seed) for seed in range(first, first + count)]
    return {name: np.concatenate([row[name] for row in each]) for name in each[0]}


def session(artifact: Artifact, role: str, provider: Any = "cuda", gpu: GpuOptions | None = None) -> Session:
    graph = artifact.manifest.graphs[role]
    return Session(artifact.file(role), role, graph, provider=provider, threads=0, gpu=gpu, largest={"B": 8, "S": 8})


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype == np.uint8:
            assert np.abs(found[name].astype(int) - value).max() <= 1, name
        elif np.issubdtype(value.dtype, np.integer):
            assert (found[name] != value).mean() <= NEAR_TIES, name
        else:
            assert number_error(found[name], value) <= 1e-4, name


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_every_graph_gives_what_the_cpu_gives(find: Callable[[str], Artifact], name: str, options: str) -> None:
    artifact = find(name)
    for role in artifact.manifest.graphs:
        on_cpu, on_gpu = session(artifact, role, "cpu"), session(artifact, role, gpu=OPTIONS[options])
        assert on_gpu.provider == "cuda"
        for turn in range(4):
            feeds = rows(artifact, role, 3, first=turn)
            check(on_gpu.run(feeds, give_back=turn == 2), on_cpu.run(feeds))


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("bucket", [1, 2, 4, 8, 16, 32, 64, 128])
def test_every_bucket(find: Callable[[str], Artifact], bucket: int, *, cuda_graphs: bool) -> None:
    artifact = find("digits-vae")
    on_cpu = session(artifact, "encode", "cpu")
    on_gpu = session(artifact, "encode", gpu=GpuOptions(cuda_graphs=cuda_graphs))
    for first in (0, 1, 2):
        feeds = rows(artifact, "encode", bucket, first)
        check(on_gpu.run(feeds), on_cpu.run(feeds))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["toy-tokens-prior", "cifar-vq"])
@pytest.mark.parametrize("role", ["prior_row", "prior_pixel"])
def test_states_stay_on_the_gpu(find: Callable[[str], Artifact], name: str, role: str, options: str) -> None:
    artifact = find(name)
    on_cpu, on_gpu = session(artifact, role, "cpu"), session(artifact, role, gpu=OPTIONS[options])
    feeds = rows(artifact, role, 4)
    states = {tensor: f"next_{tensor}" for tensor in feeds if tensor.startswith("state_")}
    assert states
    cpu_feeds, gpu_feeds = feeds, dict[str, Any](feeds)
    for _ in range(3):
        expected, found = on_cpu.run(cpu_feeds), on_gpu.run(gpu_feeds, keep=tuple(states.values()))
        kept = {tensor: found[after] for tensor, after in states.items()}
        assert not any(isinstance(value, np.ndarray) for value in kept.values())
        check({output: on_gpu.host(value) for output, value in found.items()}, expected)
        cpu_feeds = feeds | {tensor: expected[after] for tensor, after in states.items()}
        gpu_feeds = feeds | kept


def test_staging_memory_is_locked(find: Callable[[str], Artifact]) -> None:
    on_gpu = session(find("toy-colour"), "encode")
    on_gpu.run(rows(find("toy-colour"), "encode", 1))
    array = on_gpu.empty((4, 8, 8, 3), np.uint8)
    flags = ctypes.c_uint()
    # The driver refuses an address that it has not locked.
    assert ctypes.CDLL(LIBRARY).cuMemHostGetFlags(ctypes.byref(flags), ctypes.c_void_p(array.ctypes.data)) == 0


def test_the_memory_of_the_device_is_told(find: Callable[[str], Artifact]) -> None:
    report = choose_device("cuda", find("toy-colour").file("encode"))
    assert report.provider == "cuda"
    found = report.memory()
    assert found is not None
    used, total = found
    assert 0 < used < total
    assert total > 2**30
    assert report.hardware()


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_the_service_answers_from_the_gpu(settings: Settings, toy_references: Any, *, cuda_graphs: bool) -> None:
    toy = toy_references["toy-binary"]
    images = toy.images(37)

    async def body(engine: Engine) -> None:
        assert engine.device.provider == "cuda"
        found = await continuous.encode(engine, engine.model("toy-binary", "encode"), images)
        np.testing.assert_allclose(found["mean"], toy.encode(images)[0], rtol=1e-4, atol=1e-4)

    with_engine(settings.model_copy(update={"device": "cuda", "cuda_graphs": cuda_graphs}), body)


@pytest.fixture
def tensorrt(find: Callable[[str], Artifact], tmp_path: Path) -> GpuOptions:
    gpu = GpuOptions(engine_cache=tmp_path)
    report = choose_device("tensorrt", find("toy-colour").file("encode"), gpu)
    if report.provider != "tensorrt":
        pytest.skip(report.reason)
    return gpu


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy-colour", "digits-vae"])
def test_tensorrt_gives_what_the_cpu_gives(
    find: Callable[[str], Artifact], tensorrt: GpuOptions, tmp_path: Path, name: str
) -> None:
    artifact = find(name)
    for role in artifact.manifest.graphs:
        on_cpu, on_gpu = session(artifact, role, "cpu"), session(artifact, role, "tensorrt", tensorrt)
        assert on_gpu.provider == "tensorrt"
        for count in (1, 8, 3):
            feeds = rows(artifact, role, count)
            check(on_gpu.run(feeds), on_cpu.run(feeds))
    assert list(tmp_path.glob("*.engine"))
