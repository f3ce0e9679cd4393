"""What can be wrong with a container.

Each message says what was found, what was expected, and how to mend it.
"""


class CodecError(Exception):
    """Any fault of a container, or of tokens that are to become one."""


class MalformedContainerError(CodecError):
    """The bytes are no container: damaged, truncated, contradictory, or not in the one form that their content has."""


class UnsupportedContainerError(CodecError):
    """The container is of a version, or uses a flag or a profile, that is not read here."""


class ContainerLimitError(CodecError):
    """What the container holds does not fit the model: its geometry, its length, or a token."""
