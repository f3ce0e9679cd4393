"""What can be wrong with a file or an array that someone sends.

Each message says what was found, what was expected, and how to mend it.
"""


class MediaError(Exception):
    """Any fault of a picture, a sound or an array."""


class MalformedMediaError(MediaError):
    """The bytes are not what they claim to be: damaged, truncated or contradictory."""


class UnsupportedMediaError(MediaError):
    """The format, or a variant of it, is not one that is read here."""


class MediaTooLargeError(MediaError):
    """The file or what it unpacks to is over a limit."""


class MediaGeometryError(MediaError):
    """The size, the length or the number of frames or channels does not fit."""
