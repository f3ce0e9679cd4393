"""NVIDIA's driver, asked directly: which GPUs there are, how full one is, and memory that it reads fast.

ONNX Runtime does not tell the first two, and gives the third only to a provider that is registered as a plug-in.
Unlike NVML, the driver numbers the devices as ONNX Runtime does, whatever CUDA_VISIBLE_DEVICES hides.
"""

import ctypes
import logging
import math
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.errors import DeviceError

_LOG = logging.getLogger(__name__)

LIBRARY = "libcuda.so.1"

_NAME_BYTES = 128
_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE: locked for every context
_SMALLEST_BYTES = 4096
_UNUSED_BYTES = 2**28


class Driver:
    """The functions of the CUDA driver that are needed here.

    Args:
        library: the loaded shared library.

    Raises:
        DeviceError: it does not start.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._contexts: dict[int, ctypes.c_void_p] = {}
        self._call("cuInit", 0)

    @classmethod
    @cache
    def load(cls) -> "Driver":
        """Find the driver of this machine.

        Raises:
            DeviceError: there is none, or it does not start.
        """
        try:
            return cls(ctypes.CDLL(LIBRARY))
        except OSError as error:
            raise DeviceError(
                f"no NVIDIA driver ({LIBRARY}) was found; run on a GPU node, in a container with --gpus all"
            ) from error

    def count(self) -> int:
        """Count the GPUs that this process sees."""
        found = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(found))
        return found.value

    def name(self, device_id: int) -> str:
        """Name a GPU as its maker does."""
        device, text = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGet", ctypes.byref(device), device_id)
        self._call("cuDeviceGetName", text, _NAME_BYTES, device)
        return text.value.decode(errors="replace")

    def memory(self, device_id: int) -> tuple[int, int]:
        """Give the bytes of a GPU's memory that are used, by whomever, and those in all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self._current(device_id):
            self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return total.value - free.value, total.value

    def lock(self, size: int, device_id: int) -> int:
        """Allocate host memory that stays where it is, so that a GPU copies it without help.

        Args:
            size: in bytes.
            device_id: a GPU that is in use.

        Returns:
            Its address.
        """
        address = ctypes.c_void_p()
        with self._current(device_id):
            self._call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size), _PORTABLE)
        return address.value or 0

    def unlock(self, address: int, device_id: int) -> None:
        """Free what `lock` has allocated."""
        with self._current(device_id):
            self._call("cuMemFreeHost", ctypes.c_void_p(address))

    @contextmanager
    def _current(self, device_id: int) -> Iterator[None]:
        """Work in the context that ONNX Runtime has on a GPU too."""
        if device_id not in self._contexts:
            device, context = ctypes.c_int(), ctypes.c_void_p()
            self._call("cuDeviceGet", ctypes.byref(device), device_id)
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self._contexts[device_id] = context
        self._call("cuCtxPushCurrent_v2", self._contexts[device_id])
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise DeviceError(f"the CUDA driver refuses {name} with error {status}; see whether nvidia-smi works")


def count_gpus() -> int:
    """Count the GPUs that this process sees; 0 where there is no driver."""
    try:
        return Driver.load().count()
    except DeviceError:
        return 0


class LockedPool:
    """Arrays in locked memory, which comes back when nobody holds the array any more.

    Locking pages takes longer than a run, so that what comes back is kept for the next array of about the size.

    Args:
        lock: allocates so many bytes, and gives their address.
        unlock: frees them.
        unused_bytes: most memory that is kept while nobody uses it.
    """

    def __init__(
        self, lock: Callable[[int], int], unlock: Callable[[int], None], unused_bytes: int = _UNUSED_BYTES
    ) -> None:
        self._lock = lock
        self._unlock = unlock
        self._unused_bytes = unused_bytes
        self._unused: defaultdict[int, list[int]] = defaultdict(list)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Allocate an array; in ordinary memory where no more can be locked."""
        count = math.prod(shape)
        size = max(_SMALLEST_BYTES, 1 << (count * np.dtype(dtype).itemsize - 1).bit_length())
        try:
            address = self._take(size)
        except DeviceError as error:
            _LOG.warning("%d bytes of ordinary memory are used, which is slower: %s", size, error)
            return np.empty(shape, dtype)
        lease = (ctypes.c_byte * size).from_address(address)
        # An array and all views of it hold the lease.
        weakref.finalize(lease, self._give_back, size, address).atexit = False
        return np.frombuffer(memoryview(lease), dtype, count).reshape(shape)

    def _take(self, size: int) -> int:
        try:
            return self._unused[size].pop()
        except IndexError:
            return self._lock(size)

    def _give_back(self, size: int, address: int) -> None:
        kept = sum(each * len(addresses) for each, addresses in list(self._unused.items()))
        if kept + size > self._unused_bytes:
            self._unlock(address)
        else:
            self._unused[size].append(address)


@cache
def locked_pool(device_id: int) -> LockedPool:
    """Give the pool of a GPU.

    Raises:
        DeviceError: there is no driver.
    """
    driver = Driver.load()
    return LockedPool(lambda size: driver.lock(size, device_id), lambda address: driver.unlock(address, device_id))
