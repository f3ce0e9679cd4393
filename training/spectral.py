"""Multi-resolution spectral loss: an auxiliary loss of sounds, never a part of a bound."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

_WINDOWS = (64, 128, 256, 512, 1024)
_FLOOR = 1e-7


class SpectralLoss(nn.Module):
    """How far the spectra of two sounds are from each other, at several resolutions (Yamamoto et al. 2020).

    For each window the mean absolute difference of log magnitudes, of single frequencies and of mel-like bands; the
    window moves by a quarter of its length.

    Args:
        windows: their lengths, in samples.
    """

    def __init__(self, windows: tuple[int, ...] = _WINDOWS) -> None:
        super().__init__()
        self.windows = windows
        for window in windows:
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)
            self.register_buffer(f"bands_{window}", mel_bands(window), persistent=False)

    def forward(self, found: Float[Tensor, "B T"], expected: Float[Tensor, "B T"]) -> Float[Tensor, " B"]:
        """Compare sounds.

        Args:
            found: amplitudes.
            expected: likewise.

        Returns:
            At least 0, a mean over windows, frames and frequencies.
        """
        with torch.autocast(found.device.type, enabled=False):
            return self._compare(torch.cat([found, expected]).float())

    def _compare(self, both: Float[Tensor, "2*B T"]) -> Float[Tensor, " B"]:
        """Compare the first half of sounds with the second."""
        total = torch.zeros(len(both) // 2, device=both.device)
        for window in self.windows:
            magnitudes = torch.stft(
                both,
                window,
                window // 4,
                window=self.get_buffer(f"window_{window}"),
                center=True,
                pad_mode="constant",
                return_complex=True,
            )
            power = torch.view_as_real(magnitudes).square().sum(-1) / window
            bands = self.get_buffer(f"bands_{window}") @ power
            for view in (power, bands):
                first, second = (0.5 * (view + _FLOOR).log()).chunk(2)
                total = total + (first - second).abs().mean((1, 2))
        return total / (2 * len(self.windows))


def mel_bands(window: int) -> Float[Tensor, "bands frequencies"]:
    """Weigh the frequencies of a window for bands that are even on the mel scale, relative to half the sample rate.

    Args:
        window: its length in samples.

    Returns:
        Triangles whose weights sum to one each, one for every four frequencies.
    """
    frequencies = window // 2 + 1
    count = window // 8
    # The mel scale at 8 kHz: what is linear below 1/4 of the band's width becomes logarithmic above.
    top = math.log1p(1.0 / 0.175)
    edges = 0.175 * torch.expm1(torch.linspace(0.0, top, count + 2)) * (frequencies - 1)
    place = torch.arange(frequencies, dtype=torch.float32)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    width = (right - left).clamp(min=2.0) / 2.0
    triangles = (1.0 - (place - middle).abs() / width).clamp(min=0.0)
    return triangles / triangles.sum(1, keepdim=True).clamp(min=1e-6)
