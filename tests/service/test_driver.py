"""What is asked of NVIDIA's driver, here of one that is made up."""

import ctypes
from typing import Any

import numpy as np
import pytest

from service.engine import driver
from service.engine.devices import DeviceReport
from service.engine.driver import Driver, LockedPool, count_gpus
from service.errors import DeviceError
from tests.service.gpus import FakeLibrary


@pytest.fixture
def fake_driver(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library = FakeLibrary()
    monkeypatch.setattr(Driver, "load", lambda: Driver(library))
    return library


def test_the_driver_counts_and_measures_gpus(fake_driver: FakeLibrary) -> None:
    assert count_gpus() == 2
    assert DeviceReport("cuda", "cuda", "", device_id=1).memory() == (2**33 - 2**30, 2**33)
    assert fake_driver.current == []
    assert DeviceReport("cuda", "cuda", "", device_id=1).hardware() == "GPU 101"
    assert DeviceReport("cpu", "cpu", "").memory() is None
    assert DeviceReport("cpu", "cpu", "").hardware() is None
    fake_driver.failing = "cuDeviceGetName"
    assert DeviceReport("cuda", "cuda", "").hardware() is None
    fake_driver.failing = "cuMemGetInfo_v2"
    assert DeviceReport("cuda", "cuda", "", device_id=1).memory() is None
    assert fake_driver.current == [], "the context is left, whatever happens"


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libnothing-of-this-name.so.1")
    Driver.load.cache_clear()
    assert count_gpus() == 0
    with pytest.raises(DeviceError, match=r"no NVIDIA driver .* with --gpus all"):
        Driver.load()


def test_the_driver_locks_and_unlocks_memory() -> None:
    library = FakeLibrary()
    found = Driver(library)
    address = found.lock(100, device_id=0)
    assert list(library.locked) == [address]
    found.unlock(address, device_id=0)
    assert not library.locked
    assert library.calls.count("cuDevicePrimaryCtxRetain") == 1
    with pytest.raises(DeviceError, match="cuInit with error 999"):
        Driver(FakeLibrary(failing="cuInit"))


def test_locked_memory_comes_back_when_nobody_holds_the_array() -> None:
    memories: dict[int, Any] = {}
    unlocked: list[int] = []

    def lock(size: int) -> int:
        memory = ctypes.create_string_buffer(size)
        memories[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    pool = LockedPool(lock, unlocked.append, unused_bytes=3 * 4096)
    array = pool.empty((3, 5), np.float32)
    assert (array.shape, array.dtype) == ((3, 5), np.float32)
    array[...] = np.arange(15).reshape(3, 5)
    view = array[2]
    address = array.ctypes.data
    del array
    other = pool.empty((3, 5), np.float32)
    assert other.ctypes.data != address, "a view holds it"
    assert view.tolist() == [10, 11, 12, 13, 14]
    del view
    again = pool.empty((100,), np.uint8)
    assert again.ctypes.data == address
    assert len(memories) == 2
    large = pool.empty((5 * 4096,), np.uint8)
    del large
    assert len(unlocked) == 1, "more than may be kept"


def test_where_no_memory_can_be_locked_ordinary_memory_serves(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: int) -> int:
        raise DeviceError("the CUDA driver refuses cuMemHostAlloc with error 2")

    array = LockedPool(fail, print).empty((2, 2), np.int64)
    array[...] = 7
    assert array.sum() == 28
    assert "error 2" in caplog.text
