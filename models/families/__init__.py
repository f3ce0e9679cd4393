"""Families: each a configuration that composes the parts into a model.

`FamilyConfig` is what a recipe's `[model]` table may be; a new family adds its configuration to the union.
"""

from typing import Annotated

from pydantic import Field

from models.families.hierarchical_vqvae import HierarchicalVQVAEConfig
from models.families.sound_vqvae import SoundVQVAEConfig
from models.families.vae import VAEConfig
from models.families.vqvae import VQVAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape, SoundShape, data_shape

FamilyConfig = Annotated[
    VAEConfig | VQVAEConfig | HierarchicalVQVAEConfig | SoundVQVAEConfig, Field(discriminator="family")
]


def build(config: FamilyConfig, shape: tuple[int, ...]) -> LatentVariableModel:
    """Compose a model for data of some shape.

    Args:
        config: the `[model]` table of a recipe.
        shape: of one example: H, W, C of a picture, or T of a sound.

    Returns:
        The model, freshly initialised from torch's global generator.

    Raises:
        ValueError: the family or its networks do not fit the data.
    """
    data = data_shape(shape)
    if isinstance(config, SoundVQVAEConfig) and isinstance(data, SoundShape):
        return config.build(data)
    if not isinstance(config, SoundVQVAEConfig) and isinstance(data, ImageShape):
        return config.build(data)
    kind = "sounds" if isinstance(data, SoundShape) else "pictures"
    raise ValueError(f"the data are {kind}, which family {config.family!r} does not take; choose another family")
