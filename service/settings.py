"""The service's settings: `LATENTD_*` in the environment, or the flags of `python -m service`."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Precision = Literal["fp32", "fp16", "auto"]
Switch = Literal["auto", "on", "off"]
_ORIGIN = re.compile(r"https?://[^/\s?#]+")


def _number_of_workers(value: object) -> object:
    """Take `auto` for 0."""
    return 0 if value == "auto" else value


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
    watch_s: float = Field(
        default=0.0, ge=0, description="look every so many seconds whether the store has changed, and reload; 0: never"
    )
    control: bool = Field(
        default=False, description="on: callers may load, unload and reload models; off: they get 403"
    )
    device: Device = Field(
        default="auto",
        description="cpu; auto takes CUDA where it works, cuda demands it; tensorrt builds engines for minutes at the "
        "first start, and takes CUDA or the CPU where it does not work",
    )
    device_id: int = Field(default=0, ge=0, description="which GPU, from 0; the first one's of several workers")
    gpu_mem_limit_bytes: int = Field(
        default=0, ge=0, description="most GPU memory of the runs of one graph of one model; 0: no limit"
    )
    cuda_graphs: bool = Field(
        default=False, description="record the launches of each batch size and replay them: less time, more memory"
    )
    engine_cache: Path | None = Field(
        default=None, description="folder in which TensorRT keeps its engines; empty: .profiles/tensorrt in the store"
    )
    precision: Precision = Field(
        default="fp32",
        description="of the networks; fp16 stops the start where a model has no such variant, auto takes it on a GPU "
        "for the models that have it",
    )
    threads: int = Field(default=0, ge=0, description="threads of one graph run; 0: as many as there are cores")
    buckets: Annotated[tuple[int, ...], NoDecode] = Field(
        default=(),
        description="batch sizes that graphs are run at, separated by commas; empty: those that are fast, measured at "
        "the first start and kept in the store",
    )
    workers: Annotated[int, BeforeValidator(_number_of_workers)] = Field(
        default=1, ge=0, le=256, description="processes behind the port, each with its own models; auto or 0: one a GPU"
    )
    slots: int = Field(
        default=16,
        ge=2,
        le=1024,
        description="grids of codes that a prior draws side by side, fewer where they are large; all steps run at this "
        "batch size, so that a draw does not depend on its neighbours",
    )
    runners: int = Field(default=1, ge=1, le=64, description="graph runs at a time; cores / threads for throughput")
    live_samples: int = Field(
        default=512,
        gt=0,
        description="samples of the steps in which live sounds are encoded; fewer: less delay and more work",
    )
    max_live: int = Field(default=64, gt=0, description="most streams of live sound at once; beyond it 429")
    max_live_s: float = Field(default=14400.0, gt=0, description="longest stream of live sound, in seconds")
    live_idle_s: float = Field(
        default=30.0, gt=0, description="seconds without sound after which a stream of it is ended"
    )
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
    max_seconds: float = Field(default=3600.0, gt=0, description="longest sound, in seconds")
    max_request_seconds: float = Field(default=3600.0, gt=0, description="most seconds of all sounds of one request")
    max_request_samples: int = Field(
        default=2**28,
        gt=0,
        description="most samples of all sounds of one request, in all channels and at the rates that they are sent or "
        "answered at",
    )
    window_pixels: int = Field(
        default=512, gt=0, description="side of the pieces in which larger pictures are run by models that allow it"
    )
    window_s: float = Field(
        default=8.0, gt=0, description="seconds of the pieces in which longer sounds are run by models that allow it"
    )
    max_rows: int = Field(default=1024, gt=0, description="most items of one request")
    max_importance_samples: int = Field(default=5000, gt=0, description="most importance samples of one item")
    max_drawn_values: int = Field(
        default=2**24, gt=0, description="most numbers of all samples of latents that a request draws"
    )
    max_queue_rows: int = Field(default=4096, gt=0, description="most rows waiting; beyond it requests get 429")
    max_queue_bytes: int = Field(
        default=2**30,
        gt=0,
        description="most bytes waiting, inputs and outputs of all rows; beyond it requests get 429, unless nothing "
        "waits",
    )
    max_jobs: int = Field(default=64, gt=0, description="most jobs that are kept, done or not; beyond it 429")
    max_job_bytes: int = Field(
        default=2**28, gt=0, description="most bytes of the requests and results of jobs; beyond it 429"
    )
    job_deadline_s: float = Field(default=3600.0, gt=0, description="seconds after which a job is given up")
    job_ttl_s: float = Field(default=600.0, gt=0, description="seconds for which the result of a job is kept")
    deadline_s: float = Field(default=60.0, gt=0, description="seconds after which a request is given up with 504")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="how much to log")
    log_format: Literal["text", "json"] = Field(default="text", description="lines for people, or JSON for machines")
    access_log: Switch = Field(default="auto", description="a line for every request; auto: where log_format is json")
    otel: Switch = Field(
        default="auto",
        description="OpenTelemetry spans of requests; auto: where OTEL_EXPORTER_OTLP_ENDPOINT says where to send them",
    )
    api_keys_file: Path | None = Field(
        default=None, description="file of lines name:sha256-of-key[:rate_per_s[:burst]]; requests then need a key"
    )
    metrics_open: bool = Field(default=False, description="whether /metrics is answered without a key")
    client_rate_per_s: float = Field(
        default=0.0, ge=0, description="requests a second of one client address where no keys are asked for; 0: any"
    )
    client_burst: int = Field(default=20, ge=1, description="requests of one client address at once, within its rate")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="addresses or networks of proxies whose X-Forwarded-For names the client, separated by commas",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="origins whose pages may ask, such as https://example.org, separated by commas; * for all",
    )
    tls_cert: Path | None = Field(default=None, description="certificate chain in PEM; answers HTTPS")
    tls_key: Path | None = Field(default=None, description="its private key in PEM; left out, it is in tls_cert")
    tls_key_password_file: Path | None = Field(default=None, description="file with the password of tls_key")
    tls_client_ca: Path | None = Field(
        default=None, description="authorities in PEM; clients then need a certificate of one of them"
    )
    header_timeout_s: float = Field(default=10.0, gt=0, description="seconds for the whole head of a request")
    body_timeout_s: float = Field(default=30.0, gt=0, description="seconds for the whole body of a request")
    write_timeout_s: float = Field(default=30.0, gt=0, description="seconds without a byte of the answer being read")
    keep_alive_s: float = Field(default=75.0, gt=0, description="seconds that an idle connection is kept")
    max_connections: int = Field(default=4096, gt=0, description="most connections at once; beyond it 503")
    max_head_bytes: int = Field(default=2**16, ge=1024, description="largest head of a request; beyond it 431")
    drain_s: float = Field(
        default=2.0, ge=0, description="seconds between SIGTERM and the end of listening, for proxies to look elsewhere"
    )

    @field_validator("models", "buckets", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split what the environment or a flag gives as one text."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what no browser would send as an origin."""
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin, expected scheme://host or scheme://host:port without a path"
                )
        return value

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
