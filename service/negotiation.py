"""Which media type to answer with: the Accept header against what there is (RFC 9110, section 12.5.1)."""

import re
from dataclasses import dataclass
from functools import lru_cache

from service.errors import ServiceError

_RANGE = re.compile(r"\s*([\w!#$&^.+*-]+)/([\w!#$&^.+*-]+)\s*((?:;.*)?)", re.ASCII)
_QUALITY = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?=;|$)", re.ASCII | re.IGNORECASE)


class NotAcceptableError(ServiceError):
    """The caller accepts no media type that the answer can have."""


@dataclass(frozen=True)
class _Range:
    """One media range of an Accept header with its quality, 0..1."""

    kind: str
    subtype: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """Say how exactly this range names a media type: 3 the type itself, 2 `kind/*`, 1 `*/*`, 0 not at all."""
        kind, subtype = media_type.split("/")
        if self.kind == kind and self.subtype == subtype:
            return 3
        if self.kind == kind and self.subtype == "*":
            return 2
        return int(self.kind == "*" and self.subtype == "*")


@lru_cache(maxsize=1024)
def choose(accept: str | None, offers: tuple[str, ...]) -> str:
    """Choose the media type that the caller likes best.

    Args:
        accept: the Accept header; None or empty where there is none, which accepts anything.
        offers: what the answer can be, the default first; the first of equally liked ones wins.

    Returns:
        One of the offers.

    Raises:
        NotAcceptableError: none of them is accepted.
    """
    ranges = _parse(accept or "")
    if not ranges:
        return offers[0]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) == 0.0:
        raise NotAcceptableError(f"nothing of {accept!r} can be answered here; accept one of: {', '.join(offers)}")
    return best


@lru_cache(maxsize=64)
def offers_of(offers: tuple[str, ...], modality: str) -> tuple[str, ...]:
    """Leave out what a model of pictures, or of sounds, cannot answer.

    Args:
        offers: what an endpoint can answer.
        modality: `image` or `audio`.

    Returns:
        The offers, in their order, without the files of the other modality.
    """
    foreign = ("audio/",) if modality == "image" else ("image/", "text/event-stream")
    return tuple(offer for offer in offers if not offer.startswith(foreign))


def _parse(accept: str) -> list[_Range]:
    """Read the media ranges that are well formed; the others are no wish at all."""
    ranges = []
    for part in accept.split(","):
        if match := _RANGE.fullmatch(part):
            quality = _QUALITY.search(match[3])
            ranges.append(_Range(match[1].lower(), match[2].lower(), min(float(quality[1]), 1.0) if quality else 1.0))
    return ranges


def _quality(offer: str, ranges: list[_Range]) -> float:
    """Give the quality of the range that names the offer most exactly; 0 where none does."""
    best = max(ranges, key=lambda candidate: candidate.specificity(offer))
    return best.quality if best.specificity(offer) else 0.0
