"""What the tables of all priors over codes have in common."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from pydantic import Field

from models.code_priors import CodeGrid, CodePrior
from models.earlier import EarlierGrids
from models.families.parts import Config


class LinkConfig(Config):
    """What the tables of all priors hold.

    Attributes:
        dropout: in the layers, 0 .. 1.
        features: of each place that tell of the grids before its own, where there are some; see
            `models.earlier.EarlierGrids`.
        feature_blocks: residual blocks that make them.
    """

    dropout: float = Field(default=0.1, ge=0, lt=1)
    features: int = Field(default=64, gt=0)
    feature_blocks: int = Field(default=2, ge=0)

    @abstractmethod
    def build(self, grid: CodeGrid, earlier: Sequence[CodeGrid], conditions: Mapping[str, int]) -> CodePrior:
        """Make the prior, freshly initialised from torch's global generator.

        Args:
            grid: whose codes.
            earlier: the grids before it in the chain.
            conditions: names of what it is conditioned on, with the number of classes of each.

        Returns:
            The prior.
        """

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
