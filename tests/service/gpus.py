"""A machine with GPUs, as far as NVIDIA's driver tells."""

import ctypes
from collections.abc import Callable
from typing import Any


class FakeLibrary:
    """A CUDA driver of so many GPUs, whose locked memory is the process's own."""

    def __init__(self, gpus: int = 2, failing: str = "") -> None:
        self.gpus, self.failing = gpus, failing
        self.calls: list[str] = []
        self.current: list[object] = []
        self.locked: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            return 999 if name == self.failing else getattr(self, f"_{name}")(*arguments) or 0

        return call

    def _cuInit(self, flags: int) -> None:  # noqa: N802 - the driver's names
        assert flags == 0

    def _cuDeviceGetCount(self, found: Any) -> None:  # noqa: N802
        found._obj.value = self.gpus

    def _cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = 100 + ordinal
        return 0 if ordinal < self.gpus else 101

    def _cuDeviceGetName(self, text: Any, size: int, device: Any) -> None:  # noqa: N802
        assert size == len(text)
        text.value = f"GPU {device.value}".encode()

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:  # noqa: N802
        context._obj.value = 1000 + device.value

    def _cuCtxPushCurrent_v2(self, context: Any) -> None:  # noqa: N802
        self.current.append(context.value)

    def _cuCtxPopCurrent_v2(self, _: Any) -> None:  # noqa: N802
        self.current.pop()

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:  # noqa: N802
        assert self.current == [1101]
        free._obj.value, total._obj.value = 2**30, 2**33

    def _cuMemHostAlloc(self, address: Any, size: Any, flags: int) -> None:  # noqa: N802
        assert flags == 1
        assert self.current
        memory = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(memory)
        self.locked[address._obj.value] = memory

    def _cuMemFreeHost(self, address: Any) -> None:  # noqa: N802
        del self.locked[address.value]
