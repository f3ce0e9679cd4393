"""What can be wrong with an artifact; every message says what was found, what was expected and the cure."""


class ArtifactError(Exception):
    """Any fault of an artifact or of the store that holds it."""


class UnknownModelError(ArtifactError):
    """The store has no artifact of that name or version."""


class MissingFileError(ArtifactError):
    """The manifest names a file that is not in the artifact's folder."""


class ChecksumError(ArtifactError):
    """A file's bytes are not those that the manifest was written for."""


class SchemaError(ArtifactError):
    """The manifest is not one that this version of latentd can read."""


class SignatureError(ArtifactError):
    """A graph's inputs or outputs are not those that the manifest declares."""


class UnknownVariantError(ArtifactError):
    """The model was not exported in that precision."""


class GoldenError(ArtifactError):
    """A graph gives something else than it gave when it was exported, or what it gave is not all there."""


class InexactError(GoldenError):
    """A graph in exact integers gives others than it gave when it was exported, so that nothing can be coded."""
