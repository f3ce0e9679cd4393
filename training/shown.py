"""What a card shows of a model: pictures, and of sounds what can be heard as well."""

from pathlib import Path
from typing import Any

from artifact import manifest as schema
from media.audio import write_wav
from media.images import write_png
from training import pictures, spectrograms
from training.data import Recordings
from training.draft import Draft
from training.errors import ExportError
from training.parity import Images

_PICTURE_EXAMPLES = 32
_SOUND_EXAMPLES = 8
_PICTURE_SAMPLES = 64


def examples_to_show(draft: Draft, show: Path | None) -> Images:
    """Choose the pictures or sounds whose reconstructions the card shows.

    Args:
        draft: what is exported.
        show: folder of pictures; None for some of the test split.

    Returns:
        Examples of one size.

    Raises:
        ExportError: pictures are to be shown of a model of sounds.
    """
    if show is not None:
        if isinstance(draft.geometry, schema.AudioGeometry):
            raise ExportError("--show is a folder of pictures, but the model is of sounds; leave it out")
        return pictures.to_show(show, draft.geometry)
    test = draft.splits.test.fixed()
    return test[:: max(1, len(test) // _PICTURE_EXAMPLES)][:_PICTURE_EXAMPLES]


def write_shown(draft: Draft, shown: Images, stage: Path) -> None:
    """Write reconstructions, and samples where there are some: pictures, and of sounds what can be heard as well.

    Args:
        draft: what is exported.
        shown: examples to reconstruct.
        stage: the folder to write into.
    """
    if isinstance(draft.splits.test, Recordings):
        drawn = {"reconstructions": spectrograms.both(draft.model, shown[:_SOUND_EXAMPLES])}
        if draft.prior is not None:
            means = pictures.sample_means(draft.model, draft.prior)
            drawn["samples"] = means[:: pictures.SAMPLES_OF_A_CLASS].numpy()
        for name, sounds in drawn.items():
            heard = write_wav(sounds.ravel(), sample_rate_hz=draft.splits.test.sample_rate_hz)
            (stage / f"{name}.wav").write_bytes(heard)
            (stage / f"{name}.png").write_bytes(write_png(spectrograms.sheet(sounds)))
        return
    for name, picture in _pictures(draft, shown).items():
        (stage / f"{name}.png").write_bytes(write_png(picture))


def _pictures(draft: Draft, shown: Images) -> dict[str, Any]:
    """Draw what the card shows."""
    drawn = {"reconstructions": pictures.reconstructions(draft.model, shown)}
    if draft.prior is not None:
        return drawn | {"samples": pictures.prior_samples(draft.model, draft.prior)}
    samples = pictures.samples(draft.model, _PICTURE_SAMPLES)
    return drawn if samples is None else drawn | {"samples": samples}
