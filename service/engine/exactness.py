"""Whether what is in exact integers is exact here: by the golden integers of every part of a model that is."""

import logging

from artifact import decoder_golden, exact_golden, latents_golden
from artifact.errors import ArtifactError
from artifact.golden import Run
from artifact.store import Artifact

_LOG = logging.getLogger(__name__)


def exact_fault(artifact: Artifact, run: Run) -> str | None:
    """Hold a model's exact networks against their golden integers.

    Args:
        artifact: the model.
        run: of its graphs.

    Returns:
        Why nothing may be coded with them here; None where they give every integer, or there are none. All else that
        the model does needs no exact integers.
    """
    manifest = artifact.manifest
    try:
        compared = 0
        if manifest.exact_prior is not None:
            compared += exact_golden.read(artifact, manifest.exact_prior).check(run)
        if manifest.exact_decoder is not None:
            compared += decoder_golden.read(artifact, manifest.exact_decoder).check(run)
        if manifest.exact_latents is not None:
            compared += latents_golden.read(artifact, manifest.exact_latents).check(run)
    except ArtifactError as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, the model is served but for coding
        fault = f"its golden integers cannot be compared: {error!r}"
    else:
        if compared:
            _LOG.info("%s codes in exact integers: all %d golden ones agree", artifact.reference, compared)
        return None
    _LOG.error("%s codes nothing here: %s", artifact.reference, fault)
    return fault
