"""The service's settings: `LATENTD_*` in the environment, or the flags of `python -m service`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Device = Literal["auto", "cuda", "cpu"]


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(env_prefix="LATENTD_", extra="ignore", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on")
    store: Path = Field(default=Path("pretrained"), description="folder of the artifacts")
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="models to serve, name or name@version, separated by commas; the first that can answer is the "
        "default of an endpoint; empty: the latest version of every model, those that take pictures of any size first",
    )
    device: Device = Field(default="auto", description="auto takes CUDA where it works, cuda demands it")
    threads: int = Field(default=0, ge=0, description="threads of one graph run; 0: as many as there are cores")
    buckets: Annotated[tuple[int, ...], NoDecode] = Field(
        default=(),
        description="batch sizes that graphs are run at, separated by commas; empty: those that are fast, measured at "
        "the first start and kept in the store",
    )
    runners: int = Field(default=1, ge=1, le=64, description="graph runs at a time; cores / threads for throughput")
    max_body_bytes: int = Field(default=32 * 2**20, gt=0, description="largest request body")
    max_json_body_bytes: int = Field(
        default=8 * 2**20, gt=0, description="largest JSON body, which takes many times its size in memory"
    )
    max_json_values: int = Field(
        default=2**20,
        gt=0,
        description="most numbers in a JSON answer, pictures not counted; npy and npz have any number",
    )
    max_pixels: int = Field(default=2**24, gt=0, description="most pixels of one image")
    max_request_pixels: int = Field(default=2**25, gt=0, description="most pixels of all images of one request")
    max_run_values: int = Field(
        default=2**23,
        gt=0,
        description="most values that the largest input or output of one graph run has, what lies between is not "
        "seen; large images run in smaller batches",
    )
    max_seconds: float = Field(default=600.0, gt=0, description="longest sound, in seconds")
    max_rows: int = Field(default=1024, gt=0, description="most items of one request")
    max_importance_samples: int = Field(default=5000, gt=0, description="most importance samples of one item")
    max_queue_rows: int = Field(default=4096, gt=0, description="most rows waiting; beyond it requests get 429")
    max_queue_bytes: int = Field(
        default=2**30,
        gt=0,
        description="most bytes waiting, inputs and outputs of all rows; beyond it requests get 429, unless nothing "
        "waits",
    )
    deadline_s: float = Field(default=60.0, gt=0, description="seconds after which a request is given up with 504")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="how much to log")

    @field_validator("models", "buckets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split what the environment or a flag gives as one text."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("buckets")
    @classmethod
    def _order(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        """Sort the batch sizes and drop repeated ones."""
        if min(value, default=1) < 1:
            raise ValueError(f"buckets are {value}, expected batch sizes of 1 or more, such as 1,4,16")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        """Refuse a queue that would turn the largest allowed request away for ever."""
        if self.max_queue_rows < self.max_rows:
            raise ValueError(
                f"max_queue_rows is {self.max_queue_rows}, expected at least max_rows ({self.max_rows}): "
                "raise it, or lower max_rows"
            )
        return self
