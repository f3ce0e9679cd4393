"""Families: each a configuration that composes the parts into a model, in a module of its own.

Every family in this package is found by itself: a new one is a new file.
"""

from functools import reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from models.families.family import Family, ImageFamily, SoundFamily
from models.model import LatentVariableModel
from models.networks import ImageShape, SoundShape, data_shape


def _families() -> tuple[type[Family], ...]:
    """Import every module of the package, and collect the families that they define."""
    found: dict[str, type[Family]] = {}
    for module in iter_modules(__path__, f"{__name__}."):
        for value in vars(import_module(module.name)).values():
            if (
                isinstance(value, type)
                and issubclass(value, (ImageFamily, SoundFamily))
                and "family" in vars(value).get("__annotations__", {})
            ):
                found[value.__name__] = value
    return tuple(found[name] for name in sorted(found))


FAMILIES = _families()

if TYPE_CHECKING:
    FamilyConfig = Family
else:
    FamilyConfig = Annotated[reduce(or_, FAMILIES), Field(discriminator="family")]


def build(config: Family, shape: tuple[int, ...]) -> LatentVariableModel:
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
    if isinstance(config, SoundFamily) and isinstance(data, SoundShape):
        return config.build(data)
    if isinstance(config, ImageFamily) and isinstance(data, ImageShape):
        return config.build(data)
    kind = "sounds" if isinstance(data, SoundShape) else "pictures"
    raise ValueError(f"the data are {kind}, which family {config.family!r} does not take; choose another family")
