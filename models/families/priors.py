"""What the `[prior.model]` table of a recipe may be."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from models.families.pixelcnn import PixelCNNConfig
from models.families.pixelsnail import PixelSNAILConfig
from models.families.transformer import TransformerConfig
from models.families.wavenet import WaveNetConfig


def _kind(content: Any) -> str:
    """Tell which prior a table means; one that does not say means the first there was."""
    return str(content.get("kind", "pixelcnn") if isinstance(content, dict) else content.kind)


PriorModelConfig = Annotated[
    Annotated[PixelCNNConfig, Tag("pixelcnn")]
    | Annotated[PixelSNAILConfig, Tag("pixelsnail")]
    | Annotated[WaveNetConfig, Tag("wavenet")]
    | Annotated[TransformerConfig, Tag("transformer")],
    Discriminator(_kind),
]
"""Each has `build(grid, earlier, conditions) -> CodePrior`."""
