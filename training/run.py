"""A run: the folder of one fit, with its recipe, its checkpoints and what was measured of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from artifact.store import file_sha256
from models.bottleneck import VectorQuantizedBottleneck
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.pixelcnn import GatedPixelCNN
from models.quantizers import VectorQuantizer
from training import checkpoint
from training.errors import RunError
from training.recipe import PriorConfig, Recipe, read_recipe, write_recipe


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
        """The recipe as it was last run, defaults and overrides included."""
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

    @property
    def prior(self) -> "Run":
        """The files of the prior that was fitted to this run's codes."""
        return Run(self.path / "prior")

    def check_free(self) -> None:
        """Refuse to begin where a run is already.

        Raises:
            RunError: the folder holds a run already.
        """
        if self.recipe_file.exists():
            raise RunError(
                f"{self.path} holds a run already; add --resume to go on with it, or choose another --output"
            )

    def write_recipe(self, recipe: Recipe) -> None:
        """Put a recipe into the folder, which is made if it is not there."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, write_recipe(recipe))

    def weights(self) -> dict[str, str]:
        """Name what is fitted by the sha256 of its files: figures and priors belong to certain weights."""
        files = {"model": self.best, "prior": self.prior.best}
        return {name: file_sha256(path) for name, path in files.items() if path.exists()}

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

    def fitted_prior(self, recipe: Recipe, model: LatentVariableModel, num_classes: int) -> GatedPixelCNN | None:
        """Build the prior with its best weights.

        Args:
            recipe: the run's recipe.
            model: the run's model.
            num_classes: of the data.

        Returns:
            The prior in evaluation mode, on the CPU; None where none was fitted.

        Raises:
            RunError: its checkpoint does not fit the recipe, or it was fitted to the codes of other weights.
        """
        if recipe.prior is None or not self.prior.best.exists():
            return None
        prior = build_prior(recipe.prior, model, num_classes)
        state = checkpoint.read(self.prior.best)
        if state.counters.get("model_sha256") != file_sha256(self.best):
            raise RunError(
                f"the prior in {self.prior.path} was fitted to the codes of other weights than {self.best} has now; "
                "move it away and fit it again"
            )
        checkpoint.load_module(prior, state.part("model"), self.prior.best)
        return prior.eval().requires_grad_(False)


def build_prior(config: PriorConfig, model: LatentVariableModel, num_classes: int) -> GatedPixelCNN:
    """Build a fresh prior over a model's codes.

    Args:
        config: the recipe's `[prior]` table.
        model: whose codes.
        num_classes: of the data.

    Returns:
        The prior.

    Raises:
        RunError: the model has no codes.
    """
    return config.model.build(codes_of(model).num_embeddings, num_classes if config.classes else 0)


def codes_of(model: LatentVariableModel) -> VectorQuantizer:
    """Give a model's quantizer.

    Raises:
        RunError: the model has no codes.
    """
    if not isinstance(model.bottleneck, VectorQuantizedBottleneck):
        raise RunError("the model has real-valued latents, no codes; a prior over codes needs family = 'vqvae'")
    return model.bottleneck.quantizer
