"""Sounds of differing lengths, of which a fit sees crops of one length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from training.data.splits import Examples

Sound = Float32[np.ndarray, " T"]
Sounds = Float32[np.ndarray, "N T"]


@dataclass(frozen=True, eq=False)
class Recordings(Examples):
    """Sounds of differing lengths, at least one, of which a fit sees random crops.

    One that is too short is followed by silence.

    Attributes:
        sounds: in [-1, 1].
        length: samples that `fixed` brings each to.
        sample_rate_hz: of all of them.
        crop: samples of a crop.
    """

    sounds: Sequence[Sound]
    length: int
    sample_rate_hz: int
    crop: int
    uniform: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples that `fixed` brings each sound to."""
        return (self.length,)

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, index: int) -> Sound:
        return self.sounds[index]

    def fixed(self, limit: int | None = None) -> Sounds:
        """Give the beginning of the first `limit` sounds, or of all."""
        sounds = self.sounds[:limit]
        return _cut(sounds, np.zeros(len(sounds), dtype=np.int64), self.length)

    def _views(self, indices: Int64[np.ndarray, " B"], random: np.random.Generator) -> Sounds:
        sounds = [self.sounds[index] for index in indices]
        room = np.array([max(0, len(sound) - self.crop) for sound in sounds])
        return _cut(sounds, random.integers(0, room, endpoint=True), self.crop)


def _cut(sounds: Sequence[Sound], starts: Int64[np.ndarray, " B"], length: int) -> Sounds:
    """Cut one part out of each, which begins at its start."""
    parts = np.zeros((len(sounds), length), dtype=np.float32)
    for part, sound, start in zip(parts, sounds, starts, strict=True):
        found = sound[start : start + length]
        part[: len(found)] = found
    return parts
