"""A run: the folder of one fit, with its recipe, its checkpoints and what was measured of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from models.model import LatentVariableModel
from models.networks import ImageShape
from training import checkpoint
from training.errors import RunError
from training.recipe import Recipe, read_recipe, write_recipe


def write_text(path: Path, text: str) -> None:
    """Write a file aside and rename it, so that it is never seen half-written."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, "utf-8")
    os.replace(aside, path)  # noqa: PTH105  (Path.replace is the same call)


@dataclass(frozen=True)
class Run:
    """The files of a run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The recipe as it was run, defaults and overrides included."""
        return self.path / "recipe.toml"

    @property
    def last(self) -> Path:
        """All that a fit needs to go on."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The averaged weights at the best validation bound."""
        return self.path / "best.safetensors"

    @property
    def metrics_file(self) -> Path:
        """What `evaluate` measured."""
        return self.path / "metrics.json"

    def create(self, recipe: Recipe) -> None:
        """Make the folder and put the recipe in.

        Raises:
            RunError: the folder holds a run already.
        """
        if self.recipe_file.exists():
            raise RunError(
                f"{self.path} holds a run already; add --resume to go on with it, or choose another --output"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, write_recipe(recipe))

    def recipe(self, overrides: dict[str, str] | None = None) -> Recipe:
        """Read the run's recipe.

        Args:
            overrides: such as `data.root`, where the data have moved.

        Raises:
            RunError: this is not the folder of a run.
        """
        if not self.recipe_file.exists():
            raise RunError(f"{self.path} is not the folder of a run: it has no recipe.toml; fit a recipe first")
        return read_recipe(self.recipe_file, overrides)

    def model(self, recipe: Recipe, shape: tuple[int, int, int]) -> LatentVariableModel:
        """Build the model with its best weights.

        Args:
            recipe: the run's recipe.
            shape: H, W, C of the data.

        Returns:
            The model in evaluation mode, on the CPU.

        Raises:
            RunError: there is no checkpoint, or it does not fit the recipe.
        """
        height, width, channels = shape
        model = recipe.model.build(ImageShape(channels, height, width))
        checkpoint.load_module(model, checkpoint.read(self.best).part("model"), self.best)
        return model.eval().requires_grad_(False)
