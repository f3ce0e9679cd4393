"""What must hold, and whether it does."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """Something that must hold.

    Attributes:
        text: what, with its bound.
        found: the figure.
        holds: whether it is within the bound.
    """

    text: str
    found: str
    holds: bool


def judge(claims: Sequence[Claim]) -> int:
    """Print a line a claim.

    Args:
        claims: all of them.

    Returns:
        The exit status: 0 where all hold, else 1.
    """
    text, found = (max(len(part) for part in parts) for parts in zip(*((c.text, c.found) for c in claims), strict=True))
    for claim in claims:
        print(f"{claim.text:<{text}}  {claim.found:>{found}}  {'yes' if claim.holds else 'NO'}")
    return 0 if all(claim.holds for claim in claims) else 1
