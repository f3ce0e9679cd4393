"""Archives: many black and white pictures stored to the bit in one container, by bits-back coding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact import errors
from artifact.exact_latents import ExactLatents
from artifact.latent_networks import LatentNetworks
from artifact.latents_golden import read_contexts
from artifact.manifest import Manifest
from artifact.noise import POSTERIOR_STREAM, standard_normal
from codec.archive import count_pictures, read_archive, write_archive
from codec.bits_back import LatentModel, Pictures, Steps, net_bits, pack
from codec.coded import Coded, write_coded
from codec.replay import Recorded
from media.geometry import Placement
from service.bitstreams import Written
from service.engine.engine import Engine
from service.engine.lanes import Lane, in_lane
from service.engine.opening import ServedModel
from service.errors import CapabilityError, InexactError, ParameterError, TooLargeError, VerificationError
from service.faults import naming
from service.pictures import Pictures as Given
from service.settings import Settings
from service.sounds import Sounds

_ESTIMATED = 64
"""Pictures of an archive that the bounds are estimated from, spread evenly over it."""
_DRAWS = 4
"""Latents of each of them."""
_PICTURE_S = 0.01
"""What a picture takes, for the queue."""
_BITS = 8


def can_lossless(manifest: Manifest) -> bool:
    """Tell whether a model archives pictures."""
    return manifest.exact_latents is not None


async def compress_lossless(
    engine: Engine, model: ServedModel, given: Given | Sounds, *, is_full: bool
) -> list[Written]:
    """Put pictures into one archive.

    Args:
        engine: that runs.
        model: with exact latents.
        given: pictures of one size, black and white.
        is_full: whether the archive is read again by the graphs; else by what they gave while it was written.

    Returns:
        One container, and of its figures in bits a pixel: `net`, -log2 of the weights of the latents that were drawn,
        or of the pixels of pictures that are coded directly; `gross`, the whole file; `elbo` and `iwae`, minus the
        bounds, from 4 draws for each of at most 64 of the pictures.

    Raises:
        CapabilityError: the model has no exact latents, or they cannot be run exactly here.
        ParameterError: the pictures differ in size.
        VerificationError: the archive does not read as the pictures.
    """
    networks, (extent, pictures) = _networks(engine, model), _check(given)
    steps = _write(model.manifest, networks, extent, pictures, is_full=is_full)
    with in_lane(Lane.BULK):
        return [await engine.follow(model, steps, seconds=_PICTURE_S * len(pictures), admit=len(pictures))]


async def decompress_lossless(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> list[NDArray[Any]]:
    """Take the pictures out of archives.

    Args:
        engine: that runs.
        model: that wrote them.
        coded: the containers.

    Returns:
        All pictures, `[H, W, 1]`, 0 and 255.

    Raises:
        CapabilityError: the model has no exact latents, or they cannot be run exactly here.
        CodecError: a container is damaged, or not what the model writes.
        TooLargeError: they hold more than the limits.
    """
    networks, count = _networks(engine, model), _count(coded, engine.settings)
    steps = _read(networks, coded, engine.settings.max_rows)
    with in_lane(Lane.BULK):
        return await engine.follow(model, steps, seconds=_PICTURE_S * count, admit=count)


def _write(
    manifest: Manifest, networks: LatentNetworks, extent: tuple[int, ...], pictures: Pictures, *, is_full: bool
) -> Steps[Written]:
    """Write an archive, read it again, and say what it came to."""
    recorded = Recorded(networks)
    packed = yield from pack(pictures, recorded)
    hashes = {"model_hash": manifest.model_hash, "canonical_hash": _part(manifest).canonical_hash}
    coded = write_archive(packed, pictures, extent=extent, **hashes)
    again: LatentModel = networks if is_full else recorded.replay()
    if not np.array_equal((yield from read_archive(coded, again, len(pictures))), pictures):
        raise VerificationError("what was coded reads as other pictures")
    container, net = write_coded(coded), sum(cost.net_bits for cost in packed.costs)
    elbo_bits, iwae_bits = yield from _bounds_bits(pictures, networks)
    figures = {
        "net_bits_per_pixel": net / pictures.size,
        "gross_bits_per_pixel": _BITS * len(container) / pictures.size,
        "elbo_bits_per_pixel": elbo_bits / pictures[0].size,
        "iwae_bits_per_pixel": iwae_bits / pictures[0].size,
        "pictures": float(len(pictures)),
        "pictures_coded_directly": float(packed.direct),
    }
    return Written(container, coded.profile, 1, net, figures)


def _bounds_bits(pictures: Pictures, networks: LatentNetworks) -> Steps[tuple[float, float]]:
    """Estimate what a picture takes by the ELBO and by the importance-weighted bound, on average."""
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), _ESTIMATED)).round().astype(int)
    shape, draws = (1, sum(networks.sizes)), []
    for draw in range(_DRAWS):
        noise = [standard_normal(0, int(i), shape, stream=POSTERIOR_STREAM, first_sample=draw) for i in chosen]
        draws.append((yield from net_bits(pictures[chosen], networks, np.concatenate(noise))))
    bits = np.stack(draws)
    return float(bits.mean()), float((np.log2(_DRAWS) - np.logaddexp2.reduce(-bits, axis=0)).mean())


def _read(networks: LatentNetworks, coded: Sequence[Coded], limit: int) -> Steps[list[NDArray[Any]]]:
    """Read archives one after the other."""
    found: list[NDArray[Any]] = []
    for index, one in enumerate(coded):
        with naming(index, len(coded)):
            pictures = yield from read_archive(one, networks, limit)
        place = Placement(one.extent, padded=True)
        found += [place.restore(picture) for picture in pictures[..., None] * np.uint8(255)]
    return found


def _networks(engine: Engine, model: ServedModel) -> LatentNetworks:
    """Give a model's exact networks."""
    part = _part(model.manifest)
    if model.exact_fault is not None:
        raise InexactError(f"{model.reference} archives nothing here: {model.exact_fault}")
    path = engine.settings.store / model.manifest.name / str(model.version) / part.golden
    try:
        return LatentNetworks(part, read_contexts(path, model.manifest.files[part.golden]))
    except errors.InexactError as error:
        raise InexactError(f"{model.reference} archives nothing here: {error}") from error


def _part(manifest: Manifest) -> ExactLatents:
    """Give what the manifest says of exact latents."""
    if manifest.exact_latents is None:
        raise CapabilityError(f"{manifest.name} has no exact latents to archive pictures with; choose another model")
    return manifest.exact_latents


def _check(given: Given | Sounds) -> tuple[tuple[int, ...], Pictures]:
    """Give the size of all pictures, and their pixels as 0 and 1."""
    extents = sorted(set(given.extents))
    if len(extents) != 1 or not isinstance(given, Given):
        listed = ", ".join(" x ".join(map(str, extent)) for extent in extents[:3])
        raise ParameterError(f"the pictures measure {listed}, expected one size in an archive; send others apart")
    return extents[0], (given.images[..., 0] > 0).astype(np.uint8)


def _count(coded: Sequence[Coded], settings: Settings) -> int:
    """Count the pictures that archives say they hold, and refuse too many before any is read."""
    count = 0
    for index, one in enumerate(coded):
        with naming(index, len(coded)):
            count += count_pictures(one)
    if count > settings.max_rows:
        raise TooLargeError(f"the archives hold {count} pictures, expected at most {settings.max_rows}: send less")
    return count
