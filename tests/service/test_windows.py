"""Inputs in pieces against the same in one run, and against the mathematics in plain NumPy."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.manifest import Windows
from media.windows import cut
from service import discrete, windows
from service.engine.engine import Engine
from service.settings import Settings
from tests.service.serving import with_engine
from tests.toys import sounds, tokens
from tests.toys.publish import publish
from tests.toys.sounds import DOWNSAMPLING, ToySounds

ONE, CUT = "toy-whole", "toy-cut"
PATCHES = "toy-patches"


@pytest.fixture(scope="module")
def speech() -> ToySounds:
    return sounds.make(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, speech: ToySounds) -> Path:
    """The same model with windows and without, and one of pictures whose patches need no halo."""
    folder = tmp_path_factory.mktemp("store")
    publish(folder, CUT, sounds.toy(speech))
    publish(folder, ONE, sounds.toy(speech, windows=None))
    patches = tokens.toy(tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4))
    publish(folder, PATCHES, replace(patches, windows=Windows(encode_halo=0, decode_halo=0)))
    return folder


def settings(root: Path, **options: Any) -> Settings:
    return Settings(store=root, device="cpu", threads=1, buckets=(1,), window_s=0.1, **options)


@pytest.mark.parametrize(("size", "window", "halo"), [*itertools.product((1, 12, 13), (1, 4, 12, 20), (0, 1, 7))])
def test_pieces_cover_every_cell_once_and_have_their_halo(size: int, window: int, halo: int) -> None:
    covered = np.zeros(size, dtype=int)
    for piece in cut((size,), window=window, halo=halo):
        (own,), (given,), (kept,) = piece.own(1), piece.given(1), piece.kept(1)
        covered[own] += 1
        assert own.start % window == 0
        assert given.start == max(0, own.start - halo)
        assert given.stop == min(size, own.stop + halo)
        assert (np.arange(size)[given][kept] == np.arange(size)[own]).all()
    assert (covered == 1).all()


def test_pieces_of_a_plane_are_those_of_its_axes() -> None:
    pieces = cut((5, 3), window=2, halo=1)
    assert len(pieces) == 3 * 2
    covered = np.zeros((50, 30), dtype=int)
    for piece in pieces:
        covered[piece.own(10)] += 1
    assert (covered == 1).all()


def test_a_sound_in_pieces_has_the_codes_samples_and_likelihood_of_one_run(root: Path, speech: ToySounds) -> None:
    x = np.stack([speech.sound(DOWNSAMPLING * 117, seed) for seed in (1, 2)])
    extents = [(DOWNSAMPLING * 117,), (DOWNSAMPLING * 110 + 5,)]
    speaker = {"speaker": np.array([0, 2])}

    async def body(engine: Engine) -> None:
        whole, pieces = engine.model(ONE, "encode"), engine.model(CUT, "encode")
        assert not windows.is_cut(engine.settings, whole, x.shape[1:])
        assert windows.is_cut(engine.settings, pieces, x.shape[1:])
        codes = await windows.encode(engine, pieces, x)
        assert (codes["codes"] == (await windows.encode(engine, whole, x))["codes"]).all()
        assert (codes["codes"] == speech.encode(x)).all()
        made = [await windows.decode(engine, model, codes, speaker, np.copy) for model in (whole, pieces)]
        np.testing.assert_allclose(made[1], made[0], atol=1e-6)
        np.testing.assert_allclose(made[1], speech.decode(codes["codes"], speaker["speaker"]), atol=1e-5)
        found = await windows.log_likelihood(engine, pieces, x, codes, speaker, extents)
        of_samples = speech.log_likelihood(x, codes["codes"], speaker["speaker"])
        expected = [row[:length].sum() for row, (length,) in zip(of_samples, extents, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    with_engine(settings(root), body)


def test_too_small_a_halo_shows(tmp_path: Path, speech: ToySounds) -> None:
    publish(tmp_path, CUT, sounds.toy(speech, windows=Windows(encode_halo=0, decode_halo=0)))
    x = speech.sound(DOWNSAMPLING * 117)[None]

    async def body(engine: Engine) -> None:
        model = engine.model(CUT, "encode")
        codes = await windows.encode(engine, model, x)
        assert (codes["codes"] != speech.encode(x)).any()

    with_engine(settings(tmp_path), body)


def test_a_picture_in_pieces_is_that_of_one_run(root: Path) -> None:
    patches = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
    image = patches.images(1, 60, 44)

    async def body(engine: Engine) -> None:
        model = engine.model(PATCHES, "encode")
        codes = await discrete.encode(engine, model, image)
        assert (codes["codes"] == patches.encode(image)).all()
        pixels = await discrete.decode(engine, model, codes)
        assert pixels.dtype == np.uint8
        assert (pixels == np.clip(np.rint(patches.decode(codes["codes"])), 0, 255)).mean() > 0.999
        assert engine.loads[model.reference, "encode"].runs == 4 * 3

    with_engine(settings(root, window_pixels=18), body)


def test_pieces_after_the_first_let_urgent_work_go_before_them(root: Path, speech: ToySounds) -> None:
    """A short sound that comes while a long one is under way does not wait for its end."""
    long, short = speech.sound(DOWNSAMPLING * 1200)[None], speech.sound(DOWNSAMPLING * 4)[None]

    async def body(engine: Engine) -> None:
        model = engine.model(CUT, "encode")
        under_way = asyncio.create_task(windows.encode(engine, model, long))
        await asyncio.sleep(0)
        await windows.encode(engine, model, short)
        assert not under_way.done()
        assert (await under_way)["codes"].shape == (1, 1200)

    with_engine(settings(root), body)
