"""The gated PixelCNN as a recipe has it."""

from typing import Literal

from pydantic import Field

from models.families.parts import Config
from models.pixelcnn import GatedPixelCNN


class PixelCNNConfig(Config):
    """The `[prior.model]` table of a recipe; see `models.pixelcnn.GatedPixelCNN`."""

    kind: Literal["pixelcnn"] = "pixelcnn"
    channels: int = Field(default=64, gt=0)
    layers: int = Field(default=8, gt=0)
    radius: int = Field(default=1, gt=0)
    hidden: int = Field(default=256, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def build(self, num_embeddings: int, num_classes: int) -> GatedPixelCNN:
        """Make the prior, freshly initialised from torch's global generator.

        Args:
            num_embeddings: K.
            num_classes: that it can be conditioned on; 0 for no condition.

        Returns:
            The prior.
        """
        return GatedPixelCNN(
            num_embeddings,
            channels=self.channels,
            layers=self.layers,
            radius=self.radius,
            hidden=self.hidden,
            num_classes=num_classes,
            dropout=self.dropout,
        )
