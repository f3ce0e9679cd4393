"""Inputs stored to the bit: which of the ways there are a model knows, and who reads what was written so."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from artifact.manifest import Manifest
from codec.coded import Coded
from codec.profile import Profile
from service import archives, lossless
from service.bitstreams import Written
from service.coding_models import Header
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError
from service.levels import Codes
from service.option_reading import refuse_options
from service.options import CompressOptions
from service.pictures import Pictures
from service.sounds import Sounds

FIGURES = (
    *("net_bits_per_pixel", "gross_bits_per_pixel", "elbo_bits_per_pixel", "iwae_bits_per_pixel"),
    *("pictures", "pictures_coded_directly", "token_bits", "residual_bits", "net_bits_per_dim", "bits_per_dim"),
)
"""Names of what the ways tell of their containers."""

_OF_CODES = ("profile", "chunk_rows", "codebooks", "label", "labels", "speaker", "binarize")
"""Options of how codes are written, and of what else they are made of than the input."""

_WAYS = {Profile.ARCHIVE: archives, Profile.LOSSLESS_VQ: lossless}


def can_lossless(manifest: Manifest) -> bool:
    """Tell whether a model stores inputs to the bit."""
    return any(way.can_lossless(manifest) for way in _WAYS.values())


def check_options(options: CompressOptions) -> None:
    """Refuse what does not go with `mode=lossless`, where that is asked for.

    Raises:
        ParameterError: something does not.
    """
    if options.mode != "lossless":
        return
    refuse_options(options, _OF_CODES, "mode is lossless, which stores the input and not what is made of it")
    if options.fit in ("crop", "resize"):
        raise ParameterError(f"fit is {options.fit!r}, and mode is lossless; leave fit out, or ask for fit=pad")


async def compress(engine: Engine, model: ServedModel, given: Pictures | Sounds, *, is_full: bool) -> list[Written]:
    """Store inputs to the bit.

    Args:
        engine: that runs.
        model: which.
        given: pictures or sounds.
        is_full: whether what is written is read again step by step.

    Returns:
        A container an item, or one for all of them.

    Raises:
        CapabilityError: the model has no exact networks for that.
        ParameterError: the inputs are not what can be stored so.
    """
    way = next((way for way in _WAYS.values() if way.can_lossless(model.manifest)), None)
    if way is None:
        raise _incapable(model)
    return await way.compress_lossless(engine, model, given, is_full=is_full)


def _incapable(model: ServedModel) -> CapabilityError:
    return CapabilityError(
        f"{model.reference} stores no inputs to the bit: it has no exact networks for that; leave mode out, or choose "
        "another model"
    )


def is_lossless(header: Header) -> bool:
    """Tell whether a container holds inputs to the bit, and not codes."""
    return header.profile in _WAYS


async def decompress(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> list[NDArray[Any]]:
    """Read what was stored to the bit, of one profile.

    Args:
        engine: that runs.
        model: that wrote it.
        coded: the containers.

    Returns:
        Pictures or sounds, in their order: of an archive all that it holds.

    Raises:
        CapabilityError: the model has no exact networks for that.
        CodecError: one is damaged, or not what the model writes.
        TooLargeError: they hold more than the limits.
    """
    way = _WAYS[coded[0].profile]
    if not way.can_lossless(model.manifest):
        raise _incapable(model)
    return await way.decompress_lossless(engine, model, coded)


def holds_codes(coded: Sequence[Coded]) -> bool:
    """Tell whether what was stored to the bit, of one profile, has codes beside it."""
    return coded[0].profile is Profile.LOSSLESS_VQ


async def read_codes(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> list[Codes]:
    """Read the codes beside what was stored to the bit; see `service.lossless.read_codes`."""
    if not lossless.can_lossless(model.manifest):
        raise _incapable(model)
    return await lossless.read_codes(engine, model, coded)
