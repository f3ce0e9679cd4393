"""Pictures of sounds: spectrograms of originals beside those of their reconstructions."""

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from media.images import contact_sheet
from models.model import LatentVariableModel

_WINDOW = 256
_HOP = 32
_QUIETEST_DB = -80.0


def spectrogram(sound: Float32[np.ndarray, " T"]) -> UInt8[np.ndarray, "height width 1"]:
    """Show the level of every frequency over time, the lowest at the bottom; white is full scale, black 80 dB below it.

    Args:
        sound: in [-1, 1].

    Returns:
        A grey picture.
    """
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, _WINDOW // 2), _WINDOW)[::_HOP]
    window = np.hanning(_WINDOW + 1)[:-1]
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)) * (2.0 / window.sum())
    level = 20.0 * np.log10(np.maximum(magnitude, 10.0 ** (_QUIETEST_DB / 20.0)))
    grey = np.clip(255.0 * (1.0 - level / _QUIETEST_DB), 0.0, 255.0).round().astype(np.uint8)
    return grey.T[::-1, :, None]


@torch.no_grad()
def both(model: LatentVariableModel, sounds: Float32[np.ndarray, "B T"]) -> Float32[np.ndarray, "2*B T"]:
    """Give sounds, each with its reconstruction behind it.

    Args:
        model: in evaluation mode.
        sounds: B of them.

    Returns:
        Twice as many.
    """
    device = next(model.parameters()).device
    answers = model.reconstruct(torch.from_numpy(sounds).to(device)).cpu().numpy()
    return np.stack([sounds, answers], axis=1).reshape(-1, sounds.shape[1])


def sheet(sounds: Float32[np.ndarray, "B T"]) -> UInt8[np.ndarray, "height width 1"]:
    """Show the spectrograms of sounds on one picture."""
    return contact_sheet(np.stack([spectrogram(sound) for sound in sounds]))
