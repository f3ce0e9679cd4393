"""`inspect`: what containers say, what they come to, and whether they can be read."""

import argparse
import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artifact.manifest import AudioGeometry
from codec.archive import count_pictures
from codec.coded import Coded
from codec.container import Container
from codec.errors import CodecError
from codec.profile import Profile
from service import coding_lossless
from service.coding_chunks import layout_of
from service.coding_models import Header, Shelved, find_model, take_apart
from service.coding_reading import read_all
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import ServiceError
from service.offline.files import CONTAINER_SUFFIX, found
from service.offline.models import running, shelved
from service.offline.reporter import Reporter
from service.settings import Settings

HELP = "what containers say, their rates, and whether they can be read"

_BITS = 8


@dataclass
class _Report:
    """What there is to say of a file.

    Attributes:
        source: the file.
        data: its bytes.
        lines: found out so far.
        is_right: whether it can be read.
        reference: of the model that wrote it, where that is known.
        header: what it says, where that can be read.
    """

    source: Path
    data: bytes = b""
    lines: list[str] = field(default_factory=list)
    is_right: bool = True
    reference: str | None = None
    header: Header | None = None

    def fault(self, error: object) -> None:
        """Say what is wrong."""
        self.lines.append(f"wrong: {error}")
        self.is_right = False


async def run(words: argparse.Namespace, settings: Settings, reporter: Reporter) -> bool:
    """Tell of containers one after the other.

    Args:
        words: of the command.
        settings: the store and the limits.
        reporter: told what there is to say.

    Returns:
        Whether all of them can be read.

    Raises:
        UsageError: there is no file, or no store.
        ServiceError: the models cannot be opened.
        ArtifactError: likewise.
    """
    models = shelved(settings.store)
    files = found(words.files, (CONTAINER_SUFFIX,))
    reports = [await asyncio.to_thread(_look, source, models) for source, _ in files]
    references = {report.reference for report in reports if report.reference is not None}
    if references:
        async with running(settings, references) as engine:
            for report in reporter.track(reports, len(reports)):
                await _read(engine, report)
    for report in reports:
        reporter.say("\n  ".join([str(report.source), *report.lines]))
    return all(report.is_right for report in reports)


def _look(source: Path, models: Sequence[Shelved]) -> _Report:
    """Find out what a file says by itself, and which model wrote it."""
    report = _Report(source)
    try:
        report.data = source.read_bytes()
        report.header = header = _header(report)
        report.lines += _described(header, len(report.data))
        model = find_model(models, header, None)
    except (CodecError, ServiceError, OSError) as error:
        report.fault(error)
        return report
    geometry = model.manifest.geometry
    if isinstance(geometry, AudioGeometry):
        seconds = header.extent[0] / geometry.sample_rate_hz
        report.lines.append(f"{_BITS * len(report.data) / seconds:.1f} bits per second of {seconds:.3f} s")
    report.lines.append(f"written with {model.reference} ({model.manifest.model_hash[:16]})")
    report.reference = model.reference
    return report


def _header(report: _Report) -> Header:
    """Read what a container says, also where chunks of it are damaged."""
    try:
        return take_apart(report.data, salvage=False)[0]
    except CodecError as error:
        header, damaged = take_apart(report.data, salvage=True)
        report.fault(error)
        numbers = ", ".join(map(str, damaged)) or "none"
        report.lines.append(f"damaged chunks, counted from 0: {numbers}; decompress --salvage reads the others")
        return header


def _described(header: Header, size: int) -> list[str]:
    """Say what a container says."""
    version, profile = (1 if isinstance(header, Container) else 2), header.profile.name.lower().replace("_", "-")
    lines = [f"version {version}, profile {profile}, {_kind(header)}"]
    lines.append(f"{size} bytes, {header.overhead_bytes} of them without the payload")
    if len(header.extent) > 1:
        lines.append(f"{_BITS * size / (_count(header) * math.prod(header.extent)):.4f} bits per pixel")
    if not isinstance(header, Container):
        lines.append(f"written under {header.prior_prefix}, conditions {header.conditions}")
        if header.chunk_rows is not None:
            lines.append(f"{len(header.chunks)} chunks of {header.chunk_rows} rows")
        if header.codebooks is not None:
            lines.append(f"the first {header.codebooks} codebooks")
    return lines


def _kind(header: Header) -> str:
    """Say what a container is of."""
    measures = " x ".join(map(str, header.extent))
    if len(header.extent) == 1:
        return f"a sound of {measures} samples"
    return (
        f"{_count(header)} pictures of {measures} pixels" if _is_archive(header) else f"a picture of {measures} pixels"
    )


def _is_archive(header: Header) -> bool:
    return header.profile is Profile.ARCHIVE


def _count(header: Header) -> int:
    """Count the pictures."""
    return count_pictures(header) if isinstance(header, Coded) and _is_archive(header) else 1


async def _read(engine: Engine, report: _Report) -> None:
    """Read what a container holds, and say what it is."""
    if report.reference is None or report.header is None:
        return
    model = engine.named(report.reference)[-1]
    try:
        report.lines += await _content(engine, model, report.header, report)
    except (CodecError, ServiceError) as error:
        report.fault(error)
        return
    if report.is_right:
        report.lines.append("all checksums are right, that of the content included")


async def _content(engine: Engine, model: ServedModel, header: Header, report: _Report) -> list[str]:
    """Read a container to its end."""
    if isinstance(header, Coded) and coding_lossless.is_lossless(header):
        made = await coding_lossless.decompress(engine, model, [header])
        if coding_lossless.holds_codes([header]):
            await coding_lossless.read_codes(engine, model, [header])
        kind = "sound" if len(header.extent) == 1 else "picture"
        return [f"the original to the bit: {len(made)} {kind}{'s' if len(made) > 1 else ''}"]
    await read_all(engine, model, [report.data], salvage=not report.is_right)
    return _grids(model, engine, header)


def _grids(model: ServedModel, engine: Engine, header: Header) -> list[str]:
    """Name the grids of codes."""
    layout = layout_of(model, engine.settings)
    return [
        f"{' x '.join(map(str, grid.shape))} codes of {level.num_embeddings}"
        for grid, level in zip(layout.grids(header.extent), layout.levels, strict=True)
    ]
