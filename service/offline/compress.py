"""`compress`: pictures and sounds to containers."""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from artifact.manifest import Manifest
from codec.errors import CodecError
from media.errors import MediaError
from service import coding_lossless
from service.bitstreams import Wish, Written, write_all
from service.bodies import Body
from service.discrete import encode
from service.engine.abilities import can
from service.engine.catalog import Modality
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import ServiceError
from service.levels import check_codebooks
from service.limits import check_rows
from service.offline.errors import UsageError
from service.offline.files import (
    CONTAINER_SUFFIX,
    MEDIA_TYPES,
    Task,
    check_file,
    check_free,
    found,
    is_one_file,
    plan,
    write_whole,
)
from service.offline.models import by_default, named, running, shelved
from service.offline.reporter import Reporter
from service.operations import check_images
from service.option_reading import read_options
from service.options import CompressOptions, FitName
from service.pictures import Pictures, pictures
from service.settings import Settings
from service.sounds import Sounds, sounds

HELP = "pictures and sounds to containers of their codes, or of themselves to the bit"

_OPTIONS = ("model", "mode", "profile", "verify", "fit", "binarize", "label", "speaker", "codebooks", "chunk_rows")
_CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("codes", "lossless"),
    "profile": ("raw", "prior"),
    "verify": ("tables", "full"),
    "fit": get_args(FitName),
    "binarize": ("threshold",),
}

_HELP = {
    "label": "class that the exact prior is conditioned on: a name, a number or `none`",
    "speaker": "voice that the exact prior is conditioned on, likewise",
}
"""What options of a request mean for files."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command: those of `/compress`."""
    for name in _OPTIONS:
        help_ = _HELP.get(name) or str(CompressOptions.model_fields[name].description).replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", choices=_CHOICES.get(name), help=help_)


@dataclass
class _Sum:
    """What was done.

    Attributes:
        files: that went well.
        read_bytes: of these.
        written_bytes: of what was made of them.
    """

    files: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


async def run(words: argparse.Namespace, settings: Settings, reporter: Reporter) -> bool:
    """Compress files one after the other, or all into one archive.

    Args:
        words: of the command.
        settings: the store and the limits.
        reporter: told how it goes.

    Returns:
        Whether all went well.

    Raises:
        UsageError: the words do not go together.
        ServiceError: an option is out of range, or the models cannot be opened.
        ArtifactError: likewise.
    """
    given = [(name, value) for name in _OPTIONS if (value := getattr(words, name)) is not None]
    options = read_options(CompressOptions, given, {}, "the command")
    coding_lossless.check_options(options)
    files = found(words.files, tuple(MEDIA_TYPES))
    references = _references([source for source, _ in files], options, settings)
    done = _Sum()
    async with running(settings, set(references)) as engine:
        model = engine.named(references[0])[-1]
        if options.mode == "lossless" and model.code_level is None:
            await _archive(engine, model, [source for source, _ in files], words, options, done)
        else:
            tasks = plan(
                [(source, _container_name(relative)) for source, relative in files],
                words.output,
                is_file=is_one_file(words.files, words.output),
            )
            pairs = zip(tasks, references, strict=True)
            for task, reference in reporter.track(pairs, len(tasks)):
                try:
                    check_free(task.target, force=words.force)
                    await _compress(engine, engine.named(reference)[-1], task, options, done)
                except (ServiceError, MediaError, CodecError, UsageError, OSError) as error:
                    reporter.error(f"{task.source}: {error}")
    reporter.say(f"{done.files} of {len(files)} files: {done.read_bytes} bytes became {done.written_bytes}")
    return done.files == len(files)


def _container_name(relative: Path) -> Path:
    """Name the container of a file: the whole name stays, so that files that differ in their type alone do so still."""
    return relative.with_name(relative.name + CONTAINER_SUFFIX)


def _references(sources: Sequence[Path], options: CompressOptions, settings: Settings) -> list[str]:
    """Name the model of each file: the one that is asked for, else the default of its kind."""
    models = shelved(settings.store)
    if options.model is not None:
        return [named(models, options.model).reference] * len(sources)
    kinds = [_modality(source) for source in sources]
    can_do, task = _wanted(options)
    of_kind = {kind: by_default(models, kind, can_do, task).reference for kind in set(kinds)}
    return [of_kind[kind] for kind in kinds]


def _wanted(options: CompressOptions) -> tuple[Callable[[Manifest], bool], str]:
    """Give what a model must be able to do, and how a message calls that."""
    if options.mode == "lossless":
        return coding_lossless.can_lossless, "stores, to the bit,"
    return lambda manifest: manifest.exact_latents is None and can(manifest, "compress"), "compresses"


def _media_type(path: Path) -> str:
    """Tell the type of a file by its name.

    Raises:
        UsageError: it is none that is read.
    """
    try:
        return MEDIA_TYPES[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path} is not read; give files that end in {', '.join(MEDIA_TYPES)}") from None


def _modality(path: Path) -> Modality:
    return "audio" if _media_type(path).startswith("audio/") else "image"


async def _compress(engine: Engine, model: ServedModel, task: Task, options: CompressOptions, done: _Sum) -> None:
    """Compress one file."""
    data = await asyncio.to_thread(task.source.read_bytes)
    body = Body(_media_type(task.source), "", data)
    given = await asyncio.to_thread(_read, body, model, options, engine.settings)
    (written,) = await _write(engine, model, given, options)
    await asyncio.to_thread(write_whole, task.target, written.container)
    _count(done, 1, len(data), len(written.container))


def _count(done: _Sum, files: int, read_bytes: int, written_bytes: int) -> None:
    done.files += files
    done.read_bytes += read_bytes
    done.written_bytes += written_bytes


async def _archive(
    engine: Engine,
    model: ServedModel,
    sources: Sequence[Path],
    words: argparse.Namespace,
    options: CompressOptions,
    done: _Sum,
) -> None:
    """Put all pictures into one archive."""
    target = Path(words.output)
    check_file(target, f"{model.reference} puts all pictures into one file")
    check_free(target, force=words.force)
    check_rows(engine.settings, len(sources))
    given, read_bytes = await asyncio.to_thread(_read_together, sources, model, options, engine.settings)
    (written,) = await _write(engine, model, given, options)
    await asyncio.to_thread(write_whole, target, written.container)
    _count(done, len(sources), read_bytes, len(written.container))


def _read_together(
    sources: Sequence[Path], model: ServedModel, options: CompressOptions, settings: Settings
) -> tuple[Pictures, int]:
    """Read pictures that go into one archive, and count their bytes."""
    files = [(source, source.read_bytes()) for source in sources]
    given = [_read(Body(_media_type(source), "", data), model, options, settings) for source, data in files]
    alike = [one for one in given if isinstance(one, Pictures)]
    images = np.concatenate([one.images for one in alike])
    together = Pictures(images, tuple(placement for one in alike for placement in one.placements))
    return together, sum(len(data) for _, data in files)


def _read(body: Body, model: ServedModel, options: CompressOptions, settings: Settings) -> Pictures | Sounds:
    """Read a picture or a sound as the model takes it."""
    if model.manifest.geometry.modality == "audio":
        return sounds(body, model, options.fit, None, settings, _go_on)
    given = pictures(body, model, options.fit, settings, _go_on)
    return Pictures(check_images(model, given.images, binarize=options.binarize), given.placements)


def _go_on() -> None:
    """Have no deadline."""


async def _write(
    engine: Engine, model: ServedModel, given: Pictures | Sounds, options: CompressOptions
) -> list[Written]:
    """Write containers of what was read."""
    if options.mode == "lossless":
        return await coding_lossless.compress(engine, model, given, is_full=options.verify == "full")
    check_codebooks(model, options.codebooks)
    codes = await encode(engine, model, given.x)
    return await write_all(engine, model, codes, given.extents, Wish.of(options))
