"""Finding the model that a container was written with."""

from dataclasses import replace
from pathlib import Path

import pytest

from codec.coded import Chunk, Coded
from codec.profile import Profile
from service.coding_models import Shelved, find_model, shelved
from service.errors import ParameterError, UnknownModelError, UnknownPriorError
from tests.toys import chains, exact
from tests.toys.publish import publish

CHAIN = chains.make(3, (4, 2), ((5,), (6,)))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Shelved]:
    """Three versions of a model: without an exact prior, and with two different ones; the latest first."""
    root = tmp_path_factory.mktemp("versions")
    plain = chains.toy(CHAIN)
    other = exact.with_exact(plain)
    assert other.exact is not None
    weights = {name: table + (name == "Tc0") for name, table in other.exact.weights.items()}
    publish(root, "levels", plain)
    publish(root, "levels", exact.with_exact(plain))
    publish(root, "levels", replace(other, exact=replace(other.exact, weights=weights)))
    (root / "levels" / "9").mkdir()
    Path(root / "levels" / "9" / "manifest.json").write_text("no manifest")
    return shelved(root)


def written_with(model: Shelved) -> Coded:
    prior = model.manifest.exact_prior
    assert prior is not None
    return Coded(
        profile=Profile.PRIOR,
        model_prefix=model.manifest.model_hash[:16],
        prior_prefix=prior.canonical_hash[:8],
        extent=(8, 8),
        chunks=(Chunk(0, b""),),
    )


def test_the_exact_prior_decides_among_versions(models: list[Shelved]) -> None:
    assert [model.reference for model in models] == ["levels@3", "levels@2", "levels@1"]
    for model in models[:2]:
        assert find_model(models, written_with(model), None) is model
        assert find_model(models, written_with(model), "levels") is model
    with pytest.raises(UnknownPriorError, match=r"levels@2 has .*; serve levels@3"):
        find_model(models[1:], written_with(models[0]), None, lambda: models)
    with pytest.raises(UnknownPriorError, match="levels@1 has none; serve the version"):
        find_model(models[2:], written_with(models[0]), None)
    with pytest.raises(UnknownPriorError, match="levels@2 has"):
        find_model(models, written_with(models[0]), "levels@2")
    with pytest.raises(ParameterError, match="leave model out"):
        find_model(models, written_with(models[0]), "others")
    with pytest.raises(UnknownModelError, match="not served"):
        find_model(models, replace(written_with(models[0]), model_prefix="0" * 16), None)


def test_two_models_with_one_beginning_of_their_hashes_are_ambiguous(models: list[Shelved]) -> None:
    first = models[0]
    twin = replace(
        first,
        reference="twin@1",
        manifest=first.manifest.model_copy(
            update={"name": "twin", "model_hash": first.manifest.model_hash[:16] + "0" * 48}
        ),
    )
    header = written_with(first)
    with pytest.raises(ParameterError, match="levels@3 and twin@1 have; say which"):
        find_model([first, twin], header, None)
    assert find_model([first, twin], header, "twin") is twin
