"""`decompress`: containers to pictures and sounds."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from artifact.manifest import AudioGeometry
from codec.coded import Coded
from codec.errors import CodecError
from codec.profile import Profile
from media.audio import write_wav
from media.errors import MediaError
from media.images import write_png
from service import coding_lossless
from service.coding_media import decode_all
from service.coding_models import Header, Shelved, find_model, read_header
from service.coding_reading import read_all
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import ServiceError
from service.offline.errors import UsageError
from service.offline.files import (
    CONTAINER_SUFFIX,
    MEDIA_TYPES,
    Task,
    check_free,
    found,
    is_one_file,
    plan,
    write_whole,
)
from service.offline.models import named, running, shelved
from service.offline.reporter import Reporter
from service.settings import Settings

HELP = "containers to the pictures and sounds that they hold"

_SUFFIXES = {1: ".wav", 2: ".png"}
"""How the files end that are written, by the axes of the original."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.add_argument("--model", help="name or name@version, where several models can have written a container")
    parser.add_argument("--salvage", action="store_true", help="read what is left of damaged containers")


async def run(words: argparse.Namespace, settings: Settings, reporter: Reporter) -> bool:
    """Decompress containers one after the other.

    Args:
        words: of the command.
        settings: the store and the limits.
        reporter: told how it goes.

    Returns:
        Whether all went well, and nothing was lost.

    Raises:
        UsageError: the words do not go together.
        ServiceError: the models cannot be opened.
        ArtifactError: likewise.
    """
    models = shelved(settings.store)
    if words.model is not None:
        models = [named(models, words.model)]
    sources = found(words.files, (CONTAINER_SUFFIX,))
    writers, files = {}, []
    for source, relative in sources:
        try:
            header, writers[source] = await asyncio.to_thread(_look, source, models, words.salvage)
        except (CodecError, ServiceError, OSError) as error:
            reporter.error(f"{source}: {error}")
        else:
            files.append((source, _media_name(relative, header)))
    tasks = plan(files, words.output, is_file=is_one_file(words.files, words.output))
    done = await _all(tasks, writers, words, settings, reporter) if tasks else 0
    reporter.say(f"{done} of {len(sources)} containers were decompressed")
    return done == len(sources)


def _look(source: Path, models: Sequence[Shelved], salvage: bool) -> tuple[Header, str]:
    """Read what a container says, and name the model that wrote it."""
    header = read_header(source.read_bytes(), salvage=salvage)
    return header, find_model(models, header, None).reference


def _media_name(relative: Path, header: Header) -> Path:
    """Name the file of what a container holds: `cat.jpg.latentd` becomes `cat.png`; or the folder, of an archive."""
    bare = relative.with_suffix("") if relative.suffix.lower() == CONTAINER_SUFFIX else relative
    stem = bare.stem if bare.suffix.lower() in MEDIA_TYPES else bare.name
    return bare.with_name(stem + ("" if header.profile is Profile.ARCHIVE else _SUFFIXES[len(header.extent)]))


async def _all(
    tasks: Sequence[Task],
    writers: dict[Path, str],
    words: argparse.Namespace,
    settings: Settings,
    reporter: Reporter,
) -> int:
    """Decompress containers, and count those that went well."""
    done = 0
    async with running(settings, {writers[task.source] for task in tasks}) as engine:
        for task in reporter.track(tasks, len(tasks)):
            model = engine.named(writers[task.source])[-1]
            try:
                lost = await _decompress(engine, model, task, force=words.force, salvage=words.salvage)
            except (ServiceError, MediaError, CodecError, UsageError, OSError) as error:
                reporter.error(f"{task.source}: {error}")
                continue
            done += not lost
            for start, stop in lost:
                reporter.error(f"{task.source}: {start} .. {stop - 1} is lost, and filled from beside it")
    return done


async def _decompress(
    engine: Engine, model: ServedModel, task: Task, *, force: bool, salvage: bool
) -> tuple[tuple[int, int], ...]:
    """Decompress one container; give what is lost of it."""
    data = await asyncio.to_thread(task.source.read_bytes)
    header = read_header(data, salvage=salvage)
    lost: tuple[tuple[int, int], ...] = ()
    if isinstance(header, Coded) and coding_lossless.is_lossless(header):
        made = await coding_lossless.decompress(engine, model, [header])
    else:
        read = await read_all(engine, model, [data], salvage=salvage)
        made, lost = await decode_all(engine, model, read, {}), read[0].lost
    is_folder = header.profile is Profile.ARCHIVE
    targets = [task.target / f"{index:05d}.png" for index in range(len(made))] if is_folder else [task.target]
    for target in targets:
        check_free(target, force=force)
    for target, item in zip(targets, made, strict=True):
        await asyncio.to_thread(_write, target, model, item)
    return lost


def _write(target: Path, model: ServedModel, item: NDArray[Any]) -> None:
    write_whole(target, _file(model, item))


def _file(model: ServedModel, item: NDArray[Any]) -> bytes:
    """Write a picture or a sound as a file."""
    geometry = model.manifest.geometry
    if isinstance(geometry, AudioGeometry):
        return write_wav(item, sample_rate_hz=geometry.sample_rate_hz)
    return write_png(item)
