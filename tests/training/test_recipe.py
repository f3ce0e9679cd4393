"""Recipes: what is accepted, what is refused and how it is told."""

import tomllib
from pathlib import Path

import pytest

from training.errors import RecipeError
from training.recipe import Recipe, read_recipe, write_recipe


def test_overrides_lie_over_the_file(recipe_file: Path) -> None:
    recipe = read_recipe(
        recipe_file, {"fit.steps": "7", "model.likelihood.kind": "gaussian", "card.licence": "CC0-1.0"}
    )
    assert recipe.fit.steps == 7
    assert recipe.model.likelihood.kind == "gaussian"
    assert recipe.card.licence == "CC0-1.0"
    assert recipe.fit.batch_size == 64


def test_a_recipe_survives_being_written(recipe_file: Path) -> None:
    recipe = read_recipe(recipe_file)
    assert Recipe.model_validate(tomllib.loads(write_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"fit.stepps": "7"}, "unknown key 'fit.stepps'; did you mean 'steps'"),
        ({"modle.latent": "7"}, "unknown key 'modle'; did you mean 'model'"),
        ({"model.network.encoder_chanels": "[3]"}, "did you mean 'encoder_channels'"),
        ({"fit.steps": "0"}, "greater than 0"),
        ({"fit.steps": "many"}, "fit.steps"),
        ({"name.inner": "1"}, "name is a value, not a table"),
        ({"data.source": "folder"}, "needs size"),
        ({"model.likelihood.kind": "poisson"}, "model"),
    ],
)
def test_what_does_not_fit_is_told_with_its_cure(recipe_file: Path, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(recipe_file, overrides)


def test_files_that_are_no_recipes_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(RecipeError, match="not valid TOML"):
        read_recipe(tmp_path / "bad.toml")


def test_the_shipped_recipes_are_valid() -> None:
    recipes = sorted(Path("training/recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        assert read_recipe(path, {"data.root": "."} if "own" in path.stem else None).name == path.stem
