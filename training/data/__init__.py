"""Data sets: the formats that people have, and public sets by name, as uint8 images in three splits."""

from training.data.config import DataConfig
from training.data.load import load
from training.data.splits import Splits

__all__ = ["DataConfig", "Splits", "load"]
