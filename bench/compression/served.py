"""A served model without a server: what `/compress` and `/decompress` do, called from a script."""

import asyncio
import io
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from codec.coded import read_coded
from service import coding_lossless, discrete
from service.bitstreams import Wish, Written, write_all
from service.bodies import Body
from service.coding_media import decode_all
from service.coding_reading import read_all
from service.engine.engine import Engine
from service.engine.lanes import Caller, Lane, as_caller
from service.engine.opening import ServedModel
from service.pictures import Pictures, pictures
from service.settings import Settings
from service.sounds import Sounds, sounds

T = TypeVar("T")
Data = NDArray[Any]


class Served:
    """An engine with one model, in a thread of its own.

    Args:
        artifact: folder of the model, `store/name/version`.
        threads: of one run; None for the setting's.
    """

    def __init__(self, artifact: Path, *, threads: int | None = None) -> None:
        store, (name, version) = artifact.resolve().parents[1], artifact.resolve().parts[-2:]
        self.reference = f"{name}@{version}"
        known: dict[str, Any] = {} if threads is None else {"intra_op_threads": threads}
        self._settings = Settings(store=store, models=(self.reference,), device="cpu", **known)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.engine = Engine(self._settings)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self.engine.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self.engine.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def model(self) -> ServedModel:
        """The one model."""
        return self.engine.named(self.reference)[-1]

    def compress(self, x: Data, wish: Wish | None = None) -> Written:
        """Write the codes of a picture `[H, W, C]` or a sound `[T]`."""
        return self._run(self._compress(self._given([x]), wish or Wish()))

    def decompress(self, container: bytes) -> Data:
        """Decode the codes of a container."""
        return self._run(self._decompress(container))

    def store(self, items: Sequence[Data]) -> list[Written]:
        """Store pictures of one size to the bit: in a container each, or in one of all."""
        given = self._given(items)
        return self._run(coding_lossless.compress(self.engine, self.model, given, is_full=False))

    def restore(self, container: bytes) -> list[Data]:
        """Read what was stored to the bit."""
        return self._run(coding_lossless.decompress(self.engine, self.model, [read_coded(container)]))

    async def _compress(self, given: Pictures | Sounds, wish: Wish) -> Written:
        codes = await discrete.encode(self.engine, self.model, given.x)
        (written,) = await write_all(self.engine, self.model, codes, given.extents, wish)
        return written

    async def _decompress(self, container: bytes) -> Data:
        read = await read_all(self.engine, self.model, [container])
        (item,) = await decode_all(self.engine, self.model, read, {})
        return item

    def _given(self, items: Sequence[Data]) -> Pictures | Sounds:
        """Bring items of one size to the model's geometry."""
        file = io.BytesIO()
        np.save(file, np.stack(items), allow_pickle=False)
        body = Body("application/x-npy", "", file.getvalue())
        if self.model.manifest.geometry.modality == "audio":
            return sounds(body, self.model, None, None, self._settings, _go_on)
        return pictures(body, self.model, None, self._settings, _go_on)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the engine's thread, and wait."""

        async def called() -> T:
            with as_caller(Caller(Lane.INTERACTIVE)):
                return await coroutine

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result()


def _go_on() -> None:
    """Have no deadline."""
