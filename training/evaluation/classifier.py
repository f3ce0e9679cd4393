"""Small classifiers of pictures and of sounds, whose features tell how near samples are to data."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class ClassifierConfig(BaseModel):
    """The `[classifier]` table.

    Attributes:
        channels: of each stage; every stage but the first begins at half the resolution.
        dropout: share of the features that are hidden in training.
        seconds: sounds are cut or filled with silence to so many.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...] = Field(default=(32, 64, 128), min_length=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    seconds: float = Field(default=1.0, gt=0, le=60)

    def build(
        self, num_classes: int, *, modality: Literal["image", "audio"], channels: int = 1, sample_rate_hz: int = 0
    ) -> "Classifier":
        """Build a fresh classifier.

        Args:
            num_classes: of the data.
            modality: of the data.
            channels: of pictures.
            sample_rate_hz: of sounds.

        Returns:
            The classifier.
        """
        if modality == "image":
            return PictureClassifier(self, num_classes, channels)
        return SoundClassifier(self, num_classes, sample_rate_hz)


class Classifier(nn.Module, ABC):
    """p(class given x): convolutions, the mean over all places, and one linear layer.

    Args:
        config: sizes.
        num_classes: of the data.
        planes: of what `planes` gives.
    """

    def __init__(self, config: ClassifierConfig, num_classes: int, planes: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for index, width in enumerate(config.channels):
            before = config.channels[index - 1] if index else planes
            stages += [nn.MaxPool2d(2, ceil_mode=True)] if index else []
            stages += [_convolution(before, width), _convolution(width, width)]
        self.trunk = nn.Sequential(*stages)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.channels[-1], num_classes)

    @abstractmethod
    def planes(self, x: Shaped[Tensor, "B *data"]) -> Float[Tensor, "B C H W"]:
        """Bring data to what the convolutions read."""

    def features(self, x: Shaped[Tensor, "B *data"]) -> Float[Tensor, "B F"]:
        """Give the means over all places of the last convolution.

        Args:
            x: pictures `[B, H, W, C]` in 0 .. 255, or sounds `[B, T]` in [-1, 1].

        Returns:
            F numbers each.
        """
        hidden: Tensor = self.trunk(self.planes(x))
        return hidden.mean(dim=(2, 3))

    def forward(self, x: Shaped[Tensor, "B *data"]) -> Float[Tensor, "B N"]:
        """Give the logits of the classes; see `features`."""
        logits: Tensor = self.head(self.dropout(self.features(x)))
        return logits


class PictureClassifier(Classifier):
    """A classifier of pictures.

    Args:
        config: sizes.
        num_classes: of the data.
        channels: 1 or 3.
    """

    def __init__(self, config: ClassifierConfig, num_classes: int, channels: int) -> None:
        super().__init__(config, num_classes, channels)
        self.channels = channels

    def planes(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Bring 0 .. 255 to about [-2, 2]."""
        return (x.permute(0, 3, 1, 2).to(torch.float32) - 127.5) / 64.0


class SoundClassifier(Classifier):
    """A classifier of sounds by the levels of 40 mel bands, every 8 ms in windows of 32 ms.

    Args:
        config: sizes.
        num_classes: of the data.
        sample_rate_hz: of the sounds.
    """

    window: Tensor
    bands: Tensor
    num_bands = 40

    def __init__(self, config: ClassifierConfig, num_classes: int, sample_rate_hz: int) -> None:
        super().__init__(config, num_classes, planes=1)
        self.sample_rate_hz = sample_rate_hz
        self.length = round(config.seconds * sample_rate_hz)
        self.size = 2 * round(0.016 * sample_rate_hz)
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)
        self.register_buffer("bands", _triangles(sample_rate_hz, self.size, self.num_bands), persistent=False)

    def planes(self, x: Float[Tensor, "B T"]) -> Float[Tensor, "B 1 M t"]:
        """Give levels in units of about [-2, 2]."""
        sounds = nn.functional.pad(x[:, : self.length], (0, max(0, self.length - x.shape[1])))
        spectrum = torch.stft(
            sounds, self.size, self.size // 4, window=self.window, pad_mode="constant", return_complex=True
        )
        power = self.bands @ (spectrum.abs() * (2.0 / self.window.sum())).square()
        return (power.clamp(min=1e-8).log10().unsqueeze(1) + 5.0) / 1.5


def _convolution(before: int, after: int) -> nn.Sequential:
    """Make a 3x3 convolution with what follows it."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def _triangles(sample_rate_hz: int, size: int, bands: int) -> Float[Tensor, "M F"]:
    """Give the weight of each frequency in each band, even on the mel scale."""
    frequencies = torch.arange(size // 2 + 1) * (sample_rate_hz / size)
    top = math.log10(1.0 + 0.5 * sample_rate_hz / 700.0)
    corners = 700.0 * (10.0 ** torch.linspace(0.0, top, bands + 2) - 1.0)
    low, middle, high = (corners[first : first + bands, None] for first in range(3))
    rise, fall = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return torch.minimum(rise, fall).clamp(min=0.0)
