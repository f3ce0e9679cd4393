"""Schedules of the weight of the rate in a loss; bounds never carry it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class LinearAnnealing(BaseModel):
    """The weight rises from 0 to 1 over so many steps (Bowman et al. 2016, section 3.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear"] = "linear"
    steps: int = Field(gt=0)

    def weight(self, step: int) -> float:
        """Give the weight of a step, 0 .. 1."""
        return min(1.0, step / self.steps)


class CyclicalAnnealing(BaseModel):
    """The weight rises from 0 to 1 and stays there, several times over; then it is 1 (Fu et al. 2019, eqs. 6 and 7).

    Attributes:
        cycle_steps: of one cycle.
        cycles: how many there are.
        rise: share of a cycle over which the weight rises.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["cyclical"] = "cyclical"
    cycle_steps: int = Field(gt=0)
    cycles: int = Field(default=4, gt=0)
    rise: float = Field(default=0.5, gt=0, le=1)

    def weight(self, step: int) -> float:
        """Give the weight of a step, 0 .. 1."""
        if step >= self.cycles * self.cycle_steps:
            return 1.0
        return min(1.0, step % self.cycle_steps / (self.rise * self.cycle_steps))


Annealing = Annotated[LinearAnnealing | CyclicalAnnealing, Field(discriminator="kind")]
