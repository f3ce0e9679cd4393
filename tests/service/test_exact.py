"""Exact priors in the engine: whole grids at once, place by place between other requests, and runtimes that differ."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.coding import read_codes, weigh_codes
from artifact.manifest import EXACT_PRIOR, MANIFEST_FILE
from artifact.sampling import Steps
from artifact.store import file_sha256
from codec.entropy import ChunkDecoder, encode_chunk
from codec.probabilities import intervals
from service.engine.engine import Engine
from service.engine.lanes import Caller, as_caller
from service.errors import DeadlineError, UnavailableError
from service.settings import Settings
from tests.service.serving import with_engine
from tests.toys import chains, tokens
from tests.toys.chains import ToyChain
from tests.toys.exact import exact_tables, with_exact
from tests.toys.publish import publish

NAME, PLAIN = "toy-chain", "toy-plain"
CLASSES = np.array([0, 2, 1])


@pytest.fixture(scope="module")
def chain() -> ToyChain:
    """Two levels, of 4 and of 16 places."""
    return chains.make(3, (4, 2), ((5,), (7,)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, chain: ToyChain) -> Path:
    folder = tmp_path_factory.mktemp("store")
    publish(folder, NAME, with_exact(chains.toy(chain)))
    publish(folder, PLAIN, tokens.toy(tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)))
    return folder


def serve(root: Path, body: Callable[[Engine], Awaitable[Any]]) -> Any:
    return with_engine(Settings(store=root, device="cpu", threads=1, buckets=(1, 4)), body)


def grids(chain: ToyChain, rows: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [
        generator.integers(0, chain.size(i), (rows, chain.grid(i), chain.grid(i)), dtype=np.int32) for i in range(2)
    ]


def logits_of(chain: ToyChain, codes: list[np.ndarray], classes: np.ndarray) -> list[np.ndarray]:
    """Give the integer logits by the mathematics of the toy, in float64."""
    exact = ToyChain(chain.scales, chain.books, exact_tables(chain.tables))
    return [exact.logits(codes[: i + 1], classes) for i in range(2)]


def test_logits_are_the_toys_integers_whatever_runs_beside_them(root: Path, chain: ToyChain) -> None:
    codes = grids(chain)
    expected = logits_of(chain, codes, CLASSES)

    async def body(engine: Engine) -> None:
        model = engine.named(NAME)[0]
        assert model.exact_fault is None
        assert "prior_exact_row" not in model.plans
        rows = {"codes": codes[0], "condition": CLASSES}
        at_once, alone = await asyncio.gather(
            engine.run(model, EXACT_PRIOR, rows), engine.run(model, EXACT_PRIOR, {n: a[:1] for n, a in rows.items()})
        )
        assert np.array_equal(at_once["logits"], expected[0])
        assert np.array_equal(alone["logits"], expected[0][:1])
        steps = weigh_codes(model.manifest.exact_prior, codes, {"condition": CLASSES})
        for found, wanted in zip(await engine.follow(model, steps), expected, strict=True):
            assert np.array_equal(found, wanted)

    serve(root, body)


@pytest.mark.parametrize("rows", [1, 3])
def test_what_was_written_at_once_is_read_place_by_place_beside_other_requests(
    root: Path, chain: ToyChain, rows: int
) -> None:
    codes = grids(chain, rows)
    logits = logits_of(chain, codes, CLASSES[:rows])
    payloads = []
    for row in range(rows):
        parts = [
            intervals(link[row].reshape(-1, link.shape[-1]).astype(np.int32), grid[row].ravel())
            for link, grid in zip(logits, codes, strict=True)
        ]
        payloads.append(encode_chunk(*(np.concatenate(of_links) for of_links in zip(*parts, strict=True))))

    async def body(engine: Engine) -> None:
        model, plain = engine.named(NAME)[0], engine.named(PLAIN)[0]
        prior, shapes = model.manifest.exact_prior, [grid.shape[1:] for grid in codes]

        async def read() -> None:
            decoders = [ChunkDecoder(payload) for payload in payloads]
            steps = read_codes(prior, shapes, decoders, {"condition": CLASSES[:rows]})
            for found, expected in zip(await engine.follow(model, steps, rows=rows), codes, strict=True):
                assert np.array_equal(found, expected)

        images = np.zeros((1, 16, 16, 3), dtype=np.uint8)
        await asyncio.gather(read(), read(), *(engine.run(plain, "encode", {"x": images}) for _ in range(4)))
        load = engine.loads[model.reference, "prior_exact_1_pixel"]
        assert (load.runs, load.rows) == (2 * 16, 2 * 16 * rows)
        assert engine.queue_rows == 0

    serve(root, body)


def test_a_runtime_that_gives_other_integers_serves_all_but_coding(
    tmp_path: Path, chain: ToyChain, edit_manifest: Callable[[Path, Callable[[dict[str, Any]], None]], None]
) -> None:
    publish(tmp_path, NAME, with_exact(chains.toy(chain)))
    folder = tmp_path / NAME / "1"
    with np.load(folder / "exact.npz") as file:
        arrays = dict(file)
    arrays["digest_1"] = arrays["digest_1"] ^ 1
    np.savez(folder / "exact.npz", **arrays)
    edit_manifest(
        folder / MANIFEST_FILE,
        lambda content: content["files"].update({"exact.npz": file_sha256(folder / "exact.npz")}),
    )

    async def body(engine: Engine) -> None:
        model = engine.named(NAME)[0]
        assert model.exact_fault is not None
        assert "the logits of link 1 are not those of the export" in model.exact_fault
        codes = await engine.run(model, "encode", {"x": chain.images(2)})
        assert np.array_equal(codes["codes_0"], chain.encode(chain.images(2))["codes_0"])

    serve(tmp_path, body)


def test_errands_end_alone_whatever_ends_them(root: Path, chain: ToyChain) -> None:
    codes = grids(chain)

    def failing() -> Steps[int]:
        yield EXACT_PRIOR, {"codes": codes[0], "condition": CLASSES}
        raise ValueError("so it is")

    def endless() -> Steps[int]:
        while True:
            yield EXACT_PRIOR, {"codes": codes[0], "condition": CLASSES}

    async def body(engine: Engine) -> None:
        model = engine.named(NAME)[0]
        with pytest.raises(ValueError, match="so it is"):
            await engine.follow(model, failing())
        with as_caller(Caller(expires_s=asyncio.get_running_loop().time() + 0.05)), pytest.raises(DeadlineError):
            await engine.follow(model, endless())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await engine.follow(model, endless())
        steps = weigh_codes(model.manifest.exact_prior, codes, {"condition": CLASSES})
        assert len(await engine.follow(model, steps)) == 2
        left = asyncio.ensure_future(engine.follow(model, endless()))
        await asyncio.sleep(0.02)
        await engine.stop()
        with pytest.raises(UnavailableError):
            await left

    serve(root, body)


def test_manifests_say_what_is_exact(root: Path) -> None:
    content = json.loads((root / NAME / "1" / MANIFEST_FILE).read_text())
    assert content["schema_version"] == 5
    assert not content["graphs"].keys() & content["exact_prior"]["graphs"].keys()
