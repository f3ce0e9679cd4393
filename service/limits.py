"""The limits of one request, wherever its items come from."""

from artifact.manifest import AudioGeometry, Manifest
from service.errors import TooLargeError
from service.settings import Settings


def check_rows(settings: Settings, rows: int) -> None:
    """Refuse more items than one request may have.

    Args:
        settings: the limits.
        rows: how many there are.

    Raises:
        TooLargeError: there are more.
    """
    if rows > settings.max_rows:
        raise TooLargeError(f"the request has {rows} items, at most {settings.max_rows} are taken; split it")


def check_json_values(
    settings: Settings, values: int, cure: str = "accept application/x-npy or application/x-npz"
) -> None:
    """Refuse to write more numbers as text than JSON is made for.

    Args:
        settings: the limits.
        values: how many numbers there are.
        cure: how to have them in another form.

    Raises:
        TooLargeError: there are more.
    """
    if values > settings.max_json_values:
        raise TooLargeError(
            f"the answer has {values} numbers, at most {settings.max_json_values} are written as JSON; "
            f"{cure}, or split the request"
        )


def check_pixels(settings: Settings, height: int, width: int, *, total: int) -> None:
    """Refuse pictures that are too large, each or together, before more memory is taken for them.

    Args:
        settings: the limits.
        height: of a picture, in pixels.
        width: likewise.
        total: pixels of all pictures of the request that are known so far.

    Raises:
        TooLargeError: the picture has more than `max_pixels`, or all have more than `max_request_pixels`.
    """
    if height * width > settings.max_pixels:
        raise TooLargeError(
            f"a picture of {height} x {width} has {height * width} pixels, at most {settings.max_pixels} are taken; "
            "send a smaller one"
        )
    if total > settings.max_request_pixels:
        raise TooLargeError(
            f"the pictures of the request have {total} pixels or more, at most {settings.max_request_pixels} are "
            "taken; split it"
        )


def check_seconds(settings: Settings, samples: int, sample_rate_hz: int, *, total: int) -> None:
    """Refuse sounds that are too long, each or together, before more memory is taken for them.

    Args:
        settings: the limits.
        samples: of a sound.
        sample_rate_hz: samples a second.
        total: samples of all sounds of the request that are known so far.

    Raises:
        TooLargeError: the sound lasts longer than `max_seconds`, or all longer than `max_request_seconds`.
    """
    if samples > settings.max_seconds * sample_rate_hz:
        raise TooLargeError(
            f"a sound of {samples} samples lasts {samples / sample_rate_hz:.6g} s, at most {settings.max_seconds:g} s "
            "are taken; send it in parts"
        )
    if total > settings.max_request_seconds * sample_rate_hz:
        raise TooLargeError(
            f"the sounds of the request last {total / sample_rate_hz:.6g} s or more, at most "
            f"{settings.max_request_seconds:g} s are taken; split it"
        )


def check_samples(settings: Settings, samples: int) -> None:
    """Refuse more samples than one request may have, before memory is taken for them.

    Args:
        settings: the limits.
        samples: of all sounds, at the rates that they came or are wanted at.

    Raises:
        TooLargeError: there are more.
    """
    if samples > settings.max_request_samples:
        raise TooLargeError(
            f"the sounds of the request have {samples} samples or more, at most {settings.max_request_samples} are "
            "taken or answered; choose a lower sample rate, or split the request"
        )


def longest_run(manifest: Manifest) -> int:
    """Give the longest side that one run of a model takes where it is not fixed: what the model was tried with.

    Args:
        manifest: the model's.

    Returns:
        Pixels or samples, a multiple of what the model wants a multiple of.
    """
    step = manifest.geometry.multiple_of
    return manifest.geometry.maximum // step * step


def longest_side(settings: Settings, manifest: Manifest) -> int:
    """Give the longest side that a model takes where it is not fixed.

    Args:
        settings: the limits.
        manifest: the model's.

    Returns:
        Pixels or samples, a multiple of what the model wants a multiple of: what it was tried with, or, for a model
        that can be run piece by piece, all that the limits allow.
    """
    geometry = manifest.geometry
    step = geometry.multiple_of
    if manifest.windows is None:
        return longest_run(manifest)
    if isinstance(geometry, AudioGeometry):
        return -(-int(settings.max_seconds * geometry.sample_rate_hz) // step) * step
    return max(1, settings.max_pixels // step) * step
