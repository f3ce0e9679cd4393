"""What every family is: a recipe's `[model]` table that composes the parts into a model."""

from abc import abstractmethod

from models.families.parts import Config, LikelihoodPart
from models.model import LatentVariableModel
from models.networks import ImageShape, SoundShape


class Family(Config):
    """A `[model]` table; a subclass narrows `family` to its own name, by which recipes choose it.

    Attributes:
        family: the name.
        likelihood: p(x given z).
    """

    family: str
    likelihood: LikelihoodPart


class ImageFamily(Family):
    """A family of models of pictures."""

    @abstractmethod
    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model.

        Args:
            data: shape of an image.

        Returns:
            The model, freshly initialised from torch's global generator.

        Raises:
            ValueError: the networks do not fit the image or each other.
        """


class SoundFamily(Family):
    """A family of models of sounds."""

    @abstractmethod
    def build(self, data: SoundShape) -> LatentVariableModel:
        """Compose the model; see `ImageFamily.build`."""
