"""Sounds that are still being made: their codes as soon as all that they depend on has come in."""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
from jaxtyping import Float32
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.engine.engine import Engine
from service.engine.lanes import Lane, in_lane
from service.engine.opening import ServedModel
from service.engine.work import Arrays
from service.errors import CapabilityError, OverloadedError, ParameterError, UnavailableError
from service.levels import Codes, levels_of, take_first
from service.settings import Settings
from service.sounds import geometry_of
from service.windows import cell_size

_RETRY_AFTER_S = 5


class LiveEncoder:
    """Encodes one sound as it grows.

    Pieces begin at multiples of so many cells, counted from the beginning, whatever chunks the sound comes in; all but
    the first and the last ones have one shape, so that those of several streams run together.

    Args:
        engine: that runs.
        model: of sounds.
        codebooks: how many of each level's are used; None for all.

    Raises:
        CapabilityError: the model can encode whole sounds alone.
        ParameterError: it is a model of pictures.
    """

    def __init__(self, engine: Engine, model: ServedModel, codebooks: int | None = None) -> None:
        geometry, windows = geometry_of(model), model.manifest.windows
        if windows is None or geometry.length is not None:
            raise CapabilityError(
                f"{model.reference} encodes whole sounds alone, nothing can be said of one before its end; send it to "
                "/encode, or choose another model"
            )
        self._engine, self._model, self._codebooks = engine, model, codebooks
        self._multiple = geometry.multiple_of
        self._cell = cell_size(model)
        self._halo = -(-windows.encode_halo // self._cell)
        self._step = max(1, engine.settings.live_samples // self._cell)
        self._next = 0
        self._first = 0
        self._kept = np.empty(0, dtype=np.float32)

    @property
    def delay(self) -> int:
        """Samples that must come in before the first of a piece's codes can be told."""
        return (self._step + self._halo) * self._cell

    async def push(self, samples: Float32[np.ndarray, " T"]) -> Codes:
        """Take the next samples in.

        Args:
            samples: any number of them, at the model's rate.

        Returns:
            The codes that they complete, `[t]` or `[Q, t]` each; empty where they complete none.
        """
        self._kept = np.concatenate([self._kept, samples])
        ends = self._first + len(self._kept) // self._cell
        pieces = []
        while self._next + self._step + self._halo <= ends:
            pieces.append(self._take(self._next + self._step, self._next + self._step + self._halo))
        return await self._encode(pieces)

    async def finish(self) -> Codes:
        """Give the last codes, those of the silence that fills the last step of the model included.

        Raises:
            ParameterError: no sample has come in.
        """
        received = self._first * self._cell + len(self._kept)
        if not received:
            raise ParameterError("the stream ended without a sample; send some before its end")
        whole = -(-received // self._multiple) * self._multiple
        self._kept = np.pad(self._kept, (0, whole - received))
        end = whole // self._cell
        pieces = []
        while self._next < end:
            stop = min(self._next + self._step, end)
            pieces.append(self._take(stop, min(stop + self._halo, end)))
        return await self._encode(pieces)

    def _take(self, stop: int, last: int) -> tuple[Float32[np.ndarray, " T"], slice]:
        """Cut out the piece up to a cell, with its halo, and say where in it its own cells are."""
        first = max(0, self._next - self._halo)
        samples = self._kept[(first - self._first) * self._cell : (last - self._first) * self._cell]
        own = slice(self._next - first, stop - first)
        self._next = stop
        kept_from = max(0, stop - self._halo)
        self._kept = self._kept[(kept_from - self._first) * self._cell :]
        self._first = kept_from
        return samples, own

    async def _encode(self, pieces: list[tuple[Float32[np.ndarray, " T"], slice]]) -> Codes:
        """Encode pieces, those of one shape together; several at once let more urgent work go before them."""
        parts: list[Codes] = []
        start = 0
        while start < len(pieces):
            samples, own = pieces[start]
            stop = start + 1
            while stop < len(pieces) and len(pieces[stop][0]) == len(samples) and pieces[stop][1] == own:
                stop += 1
            x = np.stack([piece for piece, _ in pieces[start:stop]])
            with in_lane(Lane.BULK) if len(pieces) > 1 else nullcontext():
                outputs = await self._engine.run(self._model, "encode", {"x": x})
            codes = take_first(self._model, self._named(outputs), self._codebooks)
            for row in range(len(x)):
                parts.append({name: self._own(name, grid[row], own) for name, grid in codes.items()})
            start = stop
        if not parts:
            return {}
        return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}

    def _named(self, outputs: Arrays) -> Codes:
        return {name: outputs[name] for name in levels_of(self._model)}

    def _own(self, name: str, grid: np.ndarray, own: slice) -> np.ndarray:
        """Leave the codes of the halo out."""
        scale = self._cell // levels_of(self._model)[name].downsampling
        return grid[..., own.start * scale : own.stop * scale]


class LiveStreams(Collector):
    """The streams that are open, and what has come in by them; owned by the event loop.

    Args:
        settings: how many there may be.

    Attributes:
        ending: set when the service is about to end.
    """

    def __init__(self, settings: Settings) -> None:
        self.ending = asyncio.Event()
        self._most = settings.max_live
        self._open = 0
        self._seconds = 0.0

    def __enter__(self) -> "LiveStreams":
        """Count a stream in.

        Raises:
            OverloadedError: there are too many.
            UnavailableError: the service is about to end.
        """
        if self.ending.is_set():
            raise UnavailableError("the service is shutting down; open the stream again")
        if self._open >= self._most:
            raise OverloadedError(
                f"{self._open} streams are open, which is the most; come again in {_RETRY_AFTER_S} s", _RETRY_AFTER_S
            )
        self._open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._open -= 1

    def close(self) -> None:
        """Let every stream end with what there is, and open no more."""
        self.ending.set()

    def count(self, seconds: float) -> None:
        """Count sound that has come in."""
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """Give everything in Prometheus' terms."""
        yield GaugeMetricFamily("latentd_live_streams", "Streams of live sound that are open.", self._open)
        yield CounterMetricFamily("latentd_live_seconds", "Seconds of live sound that have come in.", self._seconds)
