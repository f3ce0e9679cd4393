"""Which chunks an exact prior covers."""

from pathlib import Path

import pytest

from artifact.exact import ExactPrior
from codec.layout import Grid
from service.coding_chunks import usual_chunk_rows, why_not_covered
from service.coding_models import shelved
from tests.toys import chains, exact, free, tokens
from tests.toys.publish import publish


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExactPrior]:
    root: Path = tmp_path_factory.mktemp("priors")
    model = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
    publish(root, "free", exact.with_exact(free.toy(model, free.tables(model, 5))))
    publish(root, "books", exact.with_exact(chains.toy(chains.make(4, (4, 2), ((5, 5), (5, 5))))))
    found = {one.manifest.name: one.manifest.exact_prior for one in shelved(root)}
    return {name: prior for name, prior in found.items() if prior is not None}


def test_chunks_of_any_size_are_covered_up_to_a_limit(priors: dict[str, ExactPrior]) -> None:
    prior = priors["free"]
    assert why_not_covered(prior, (Grid(1, (300, 400)),), 100) is None
    assert "120000 places is more than 65536" in str(why_not_covered(prior, (Grid(1, (300, 400)),), None))
    assert "1000000 places" in str(why_not_covered(prior, (Grid(1, (1, 1_000_000)),), None))
    assert usual_chunk_rows(prior, (Grid(1, (300, 400)),)) == 16_384 // 400


def test_a_prior_over_one_size_covers_it_alone(priors: dict[str, ExactPrior]) -> None:
    prior = priors["books"]
    assert why_not_covered(prior, (Grid(2, (2, 2)), Grid(2, (4, 4))), None) is None
    assert "here are 1 x 2" in str(why_not_covered(prior, (Grid(2, (2, 2)), Grid(2, (4, 4))), 1))
    assert "here are 3 x 2" in str(why_not_covered(prior, (Grid(2, (3, 2)), Grid(2, (6, 4))), None))
    assert usual_chunk_rows(prior, (Grid(2, (2, 2)), Grid(2, (4, 4)))) is None


def test_codebooks_are_left_out_from_the_end_alone(priors: dict[str, ExactPrior]) -> None:
    prior = priors["books"]
    assert why_not_covered(prior, (Grid(2, (2, 2)), Grid(1, (4, 4))), None) is None
    assert "some of which are left out" in str(why_not_covered(prior, (Grid(1, (2, 2)), Grid(2, (4, 4))), None))
