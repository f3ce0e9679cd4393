"""Data sets: the formats that people have, and public sets by name, as uint8 images in three splits."""

from training.data.config import DataConfig
from training.data.load import load
from training.data.sounds import Recordings
from training.data.splits import Examples, ImageArray, Photographs, Splits

__all__ = ["DataConfig", "Examples", "ImageArray", "Photographs", "Recordings", "Splits", "load"]
