"""Families: each a configuration that composes the parts into a model.

`FamilyConfig` is what a recipe's `[model]` table may be; a new family adds its configuration to the union.
"""

from typing import Annotated

from pydantic import Field

from models.families.vae import VAEConfig
from models.families.vqvae import VQVAEConfig

FamilyConfig = Annotated[VAEConfig | VQVAEConfig, Field(discriminator="family")]
