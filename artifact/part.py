"""What every piece of a manifest is."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A strict, immutable piece of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
