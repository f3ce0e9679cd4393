"""What every piece of a manifest is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A strict, immutable piece of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
