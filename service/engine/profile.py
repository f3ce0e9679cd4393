"""What batches of each size cost, measured on the model itself, and kept beside the artifacts for the next start."""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from artifact.manifest import Precision
from service.engine.devices import DeviceReport
from service.engine.runtime import available_cores, runtime_version
from service.settings import Settings

_LOG = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Batch sizes that are tried."""

FOLDER = ".profiles"
"""Of the store; no model can have this name."""

_ROUNDS = 4
_ROUND_S = 0.03
"""Sizes are added while a round of all of them takes no longer."""
_HOPELESS = 1.5
"""A size that takes this many times the best time a row ends the search: larger ones do not get better."""


def measure(run: Callable[[int], object], sizes: tuple[int, ...] = SIZES) -> dict[int, float]:
    """Time a graph at rising batch sizes, until larger ones are hopeless or cost too much time.

    The sizes are run in turns, and of each the fastest run counts: whatever else the machine does meanwhile can only
    slow a run down, and would favour the sizes that it spares.

    Args:
        run: runs it at a batch size.
        sizes: rising.

    Returns:
        Seconds of a run by size; the first size at least.
    """
    seconds: dict[int, float] = {}
    for size in sizes:
        run(size)  # the first run of a shape allocates
        seconds[size] = _time(run, size)
        best = min(time_s / rows for rows, time_s in seconds.items())
        if seconds[size] / size > _HOPELESS * best or sum(seconds.values()) > _ROUND_S:
            break
    for _ in range(_ROUNDS - 1):
        for size, known_s in seconds.items():
            seconds[size] = min(known_s, _time(run, size))
    return seconds


def _time(run: Callable[[int], object], size: int) -> float:
    start_s = time.perf_counter()
    run(size)
    return time.perf_counter() - start_s


def environment(device: DeviceReport, settings: Settings, precision: Precision | None) -> dict[str, str]:
    """Give all but the model that the time of a run depends on.

    Args:
        device: what the graphs run on.
        settings: the threads of a run, and whether a GPU records its graphs.
        precision: of the graphs; None for the full one.
    """
    return {
        "runtime": runtime_version(),
        "provider": device.provider,
        "processor": device.hardware() or _processor(),
        "cores": str(available_cores()),
        "threads": str(settings.threads),
        "cuda_graphs": str(settings.cuda_graphs),
        "precision": precision or "full",
    }


def _processor() -> str:
    """Name the processor as the system does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.processor() or platform.machine())


class Profile(BaseModel):
    """What was measured of one model.

    Attributes:
        environment: all that the times depend on; another one voids them.
        seconds: of a run, by graph and batch size.
    """

    environment: dict[str, str]
    seconds: dict[str, dict[int, float]]


class ProfileCache:
    """Profiles on disk, one file a model; a store that cannot be written is measured anew at each start.

    Args:
        store: folder of the artifacts.
        environment: all but the model that the times depend on.
    """

    def __init__(self, store: Path, environment: Mapping[str, str]) -> None:
        self._folder = store / FOLDER
        self._environment = dict(environment)

    def read(self, reference: str, model_hash: str) -> dict[str, dict[int, float]]:
        """Give the seconds by graph and batch size; nothing where there is no profile of just this."""
        path = self._path(reference)
        try:
            profile = Profile.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            _LOG.warning("the profile %s cannot be read and is measured anew: %s", path, error)
            return {}
        return profile.seconds if profile.environment == self._key(model_hash) else {}

    def write(self, reference: str, model_hash: str, seconds: Mapping[str, Mapping[int, float]]) -> None:
        """Keep what was measured, where the store can be written."""
        path = self._path(reference)
        content = json.dumps({"environment": self._key(model_hash), "seconds": seconds}, indent=1)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(exist_ok=True)
            aside.write_text(content)
            aside.replace(path)
        except OSError as error:
            _LOG.info("the profile of %s is not kept: %s", reference, error)

    def _path(self, reference: str) -> Path:
        return self._folder / f"{reference}.json"

    def _key(self, model_hash: str) -> dict[str, str]:
        return self._environment | {"model_hash": model_hash}
