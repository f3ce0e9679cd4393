"""Sounds of a request: read at any rate and length, brought to a model's, and taken back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from artifact.manifest import AudioGeometry
from media.arrays import read_npy
from media.audio import read_recording, resample
from media.geometry import Placement, fit_audio
from media.sounds import restore_rate
from service.bodies import IMAGES, NPY, SOUNDS, Body, check_kind, files
from service.engine.opening import ServedModel
from service.errors import ParameterError
from service.faults import naming
from service.limits import check_rows, check_samples, check_seconds, longest_side
from service.options import FitName
from service.settings import Settings


@dataclass(frozen=True)
class Source:
    """What a sound was before it was brought to a model's rate.

    Attributes:
        sample_rate_hz: samples a second.
        length: samples.
        channels: that were averaged.
        encoding: of the samples of a file, by libsndfile's name; None of an array.
    """

    sample_rate_hz: int
    length: int
    channels: int = 1
    encoding: str | None = None


@dataclass(frozen=True)
class Sounds:
    """Sounds of a request, brought to a model's geometry.

    Attributes:
        samples: what the model gets.
        placements: how each answer goes back to its original's extent, at the model's rate.
        sources: what they were.
        sample_rate_hz: the model's.
    """

    samples: Float32[np.ndarray, "B T"]
    placements: tuple[Placement, ...]
    sources: tuple[Source, ...]
    sample_rate_hz: int

    @property
    def x(self) -> Float32[np.ndarray, "B T"]:
        """What the model gets, of whatever kind it is."""
        return self.samples

    @property
    def extents(self) -> list[tuple[int, ...]]:
        """The length of each sound as it goes back to the caller, at the model's rate."""
        return [one.restore(sound).shape for one, sound in zip(self.placements, self.samples, strict=True)]

    def originals(self, answers: Float32[np.ndarray, "B T"]) -> list[Float32[np.ndarray, " n"]]:
        """Bring what a model made of them to the rates and lengths that they had.

        Args:
            answers: a sound for each, at the model's rate.

        Returns:
            The sounds; one that was cropped stays as long as that.
        """
        rows = zip(answers, self.samples, self.placements, self.sources, strict=True)
        return [self._original(*row) for row in rows]

    def _original(
        self, answer: Float32[np.ndarray, " T"], given: Float32[np.ndarray, " T"], placement: Placement, source: Source
    ) -> Float32[np.ndarray, " n"]:
        rates = {"source_hz": self.sample_rate_hz, "target_hz": source.sample_rate_hz}
        is_cropped = placement.restore(given).shape != placement.extent
        length = round(len(answer) * rates["target_hz"] / rates["source_hz"]) if is_cropped else source.length
        return restore_rate(placement.restore(answer), **rates, length=length)


def sounds(
    body: Body,
    model: ServedModel,
    fit: FitName | None,
    sample_rate_hz: int | None,
    settings: Settings,
    check: Callable[[], None],
) -> Sounds:
    """Read the sounds of a body and bring them to a model's geometry.

    Args:
        body: of a type among `MEDIA_BODIES`.
        model: whose geometry counts.
        fit: what to do with another length; None for the model's default.
        sample_rate_hz: of an array; None for the model's.
        settings: the limits.
        check: called between sounds; raises when nobody waits any more.

    Returns:
        The sounds.

    Raises:
        ServiceError: no sounds, too many, too long, or of differing lengths.
        MediaError: a sound cannot be read or does not fit.
    """
    geometry = geometry_of(model)
    check_kind(body, model, IMAGES, "a model of sounds", SOUNDS)
    found: list[tuple[Float32[np.ndarray, " t"], Placement]] = []
    sources: list[Source] = []
    readers = _readers(body, model, geometry, sample_rate_hz, settings)
    total = taken = 0
    for index, read in enumerate(readers):
        check()
        with naming(index, len(readers)):
            samples, source = read()
            if not len(samples):
                raise ParameterError(
                    f"{source.length} samples at {source.sample_rate_hz} Hz are less than one at the "
                    f"{geometry.sample_rate_hz} Hz of {model.reference}; send a longer sound"
                )
            total, taken = total + len(samples), taken + source.length
            check_seconds(settings, len(samples), geometry.sample_rate_hz, total=total)
            check_samples(settings, taken)
            found.append(_fitted(samples, model, geometry, fit, settings))
            sources.append(source)
    if not found:
        raise ParameterError("the request holds no sound; send a file, a form, an array or JSON items")
    if len({len(samples) for samples, _ in found}) > 1:
        cure = "bring them to one length, or send them one by one"
        raise ParameterError(f"the sounds of one request differ in length for {model.reference}; {cure}")
    # The usual single sound is not copied once more.
    x = found[0][0][None] if len(found) == 1 else np.stack([samples for samples, _ in found])
    return Sounds(x, tuple(placement for _, placement in found), tuple(sources), geometry.sample_rate_hz)


def geometry_of(model: ServedModel) -> AudioGeometry:
    """Give the geometry of a model of sounds.

    Raises:
        ParameterError: it is a model of pictures.
    """
    geometry = model.manifest.geometry
    if not isinstance(geometry, AudioGeometry):
        raise ParameterError(f"{model.reference} is a model of pictures; send it some, or choose a model of sounds")
    return geometry


def at_rate(
    samples: Sequence[Float32[np.ndarray, " T"]], model: ServedModel, sample_rate_hz: int | None, settings: Settings
) -> tuple[list[Float32[np.ndarray, " t"]], tuple[int, ...]]:
    """Bring sounds that a model made to the rate that the caller wants.

    Args:
        samples: at the model's rate.
        model: which.
        sample_rate_hz: that is wanted; None for the model's.
        settings: the limits.

    Returns:
        The sounds, in [-1, 1], and the rate of each.

    Raises:
        TooLargeError: they would have too many samples.
    """
    source_hz = geometry_of(model).sample_rate_hz
    target_hz = sample_rate_hz or source_hz
    lengths = [round(len(one) * target_hz / source_hz) for one in samples]
    check_samples(settings, sum(lengths))
    wanted = [
        restore_rate(one, source_hz=source_hz, target_hz=target_hz, length=length)
        for one, length in zip(samples, lengths, strict=True)
    ]
    return wanted, (target_hz,) * len(wanted)


def _readers(
    body: Body, model: ServedModel, geometry: AudioGeometry, sample_rate_hz: int | None, settings: Settings
) -> Sequence[Callable[[], tuple[Float32[np.ndarray, " T"], Source]]]:
    """Give what reads each sound of a body, to be called one after the other."""
    if body.media_type == NPY:
        array = _sound_array(read_npy(body.data, max_bytes=settings.max_body_bytes), model, settings)
        source_hz = sample_rate_hz or geometry.sample_rate_hz
        check_seconds(settings, array.shape[1], source_hz, total=array.size)
        return [partial(_from_array, row, source_hz, geometry.sample_rate_hz) for row in array]
    if sample_rate_hz is not None:
        raise ParameterError("sample_rate is given, and a file says its own; leave sample_rate out")
    found = files(body, "audio", settings, taken=SOUNDS, beside=("sample_rate",))
    return [partial(_from_file, data, geometry.sample_rate_hz, settings) for data in found]


def _from_array(
    samples: Float32[np.ndarray, " T"], source_hz: int, target_hz: int
) -> tuple[Float32[np.ndarray, " t"], Source]:
    return resample(samples, source_hz=source_hz, target_hz=target_hz), Source(source_hz, len(samples))


def _from_file(data: bytes, sample_rate_hz: int, settings: Settings) -> tuple[Float32[np.ndarray, " t"], Source]:
    found = read_recording(
        data,
        sample_rate_hz=sample_rate_hz,
        max_seconds=settings.max_seconds,
        max_samples=settings.max_request_samples,
    )
    return found.samples, Source(found.source_hz, found.frames, found.channels, found.encoding)


def _sound_array(array: NDArray[np.generic], model: ServedModel, settings: Settings) -> Float32[np.ndarray, "B T"]:
    """Check an array of sounds."""
    if array.dtype != np.float32 or array.ndim != 2 or 0 in array.shape:
        raise ParameterError(
            f"the array is {array.dtype} {list(array.shape)}, expected float32 [B, T] in [-1, 1], none of them 0: "
            f"{model.reference} is a model of sounds"
        )
    check_rows(settings, len(array))
    low, high = float(array.min()), float(array.max())
    if not -1.0 <= low <= high <= 1.0:
        raise ParameterError(
            f"the array holds values from {low:g} to {high:g}, expected -1 to 1; divide 16-bit samples by 32768"
        )
    return array


def _fitted(
    samples: Float32[np.ndarray, " T"],
    model: ServedModel,
    geometry: AudioGeometry,
    fit: FitName | None,
    settings: Settings,
) -> tuple[Float32[np.ndarray, " t"], Placement]:
    """Bring one sound to the geometry; a model of fixed length refuses others unless told how to fit them."""
    return fit_audio(
        samples,
        length=geometry.length,
        multiple_of=geometry.multiple_of,
        maximum=longest_side(settings, model.manifest),
        fit=fit or ("pad" if geometry.length is None else "error"),
    )
