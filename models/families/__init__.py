"""Families: each a configuration that composes the parts into a model.

`FamilyConfig` is what a recipe's `[model]` table may be; a new family adds its configuration to the union.
"""

from models.families.vae import VAEConfig

FamilyConfig = VAEConfig
