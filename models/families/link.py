"""What the tables of all priors over codes have in common."""

from collections.abc import Sequence

from pydantic import Field

from models.code_priors import CodeGrid
from models.earlier import EarlierGrids
from models.families.parts import Config


class LinkConfig(Config):
    """How a prior takes notice of the grids before its own, where there are some; see `models.earlier.EarlierGrids`."""

    features: int = Field(default=64, gt=0)
    feature_blocks: int = Field(default=2, ge=0)

    def build_earlier(self, grid: CodeGrid, earlier: Sequence[CodeGrid]) -> EarlierGrids | None:
        """Make what turns earlier grids into features of each place.

        Args:
            grid: the prior's own.
            earlier: those before it in the chain.

        Returns:
            The network; None where there are none before it.
        """
        if not earlier:
            return None
        return EarlierGrids(earlier, grid, channels=self.features, blocks=self.feature_blocks)
