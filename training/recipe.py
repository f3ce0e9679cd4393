"""Recipes: everything that decides a training run, as TOML validated by pydantic."""

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.families import FamilyConfig
from models.families.pixelcnn import PixelCNNConfig
from models.families.priors import PriorModelConfig
from training.data import DataConfig
from training.errors import RecipeError
from training.objectives import ObjectiveConfig, SGVBConfig

Device = Literal["auto", "cpu", "cuda"]
Table = TypeVar("Table", bound=BaseModel)


class Section(BaseModel):
    """A table of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FitConfig(Section):
    """The `[fit]` table: how the objective is minimised.

    Attributes:
        steps: optimiser steps.
        batch_size: examples a step.
        learning_rate: the peak, reached after the warmup.
        warmup_steps: steps of linear rise from 0.
        final_learning_rate: where the cosine ends.
        weight_decay: AdamW's, decoupled.
        gradient_clip: largest norm of the gradient of the mean loss in nats.
        ema_decay: of the averaged weights, which are the ones kept.
        precision: bf16-mixed computes networks in bfloat16 and everything of a bound in float32 and float64.
        device: where; auto takes CUDA where there is one.
        devices: processes that fit together, each on its share of the batch: as many GPUs, or the CPU.
        threads: of the CPU, for each process; 0 leaves torch's choice.
        validate_every: steps between two looks at the validation bound.
        patience: looks without a better bound after which the fit stops early.
        checkpoint_every: steps between two checkpoints; those of validation steps come besides.
        seed: of the initial weights, the order of examples and all noise.
    """

    steps: int = Field(default=20_000, gt=0)
    batch_size: int = Field(default=128, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=500, ge=0)
    final_learning_rate: float = Field(default=1e-5, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=50.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    device: Device = "auto"
    devices: int = Field(default=1, gt=0)
    threads: int = Field(default=0, ge=0)
    validate_every: int = Field(default=1_000, gt=0)
    patience: int = Field(default=20, gt=0)
    checkpoint_every: int = Field(default=500, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**63)


class CardConfig(Section):
    """The `[card]` table: what the model card says that no program can know."""

    description: str = ""
    licence: str = "unspecified"


class LinkFitConfig(Section):
    """What a link of a prior is and how it is fitted.

    Attributes:
        model: the prior.
        fit: how.
    """

    model: PriorModelConfig = PixelCNNConfig()
    fit: FitConfig = FitConfig()


class PriorConfig(LinkFitConfig):
    """The `[prior]` table: the prior that `fit-prior` fits to the codes of the fitted model, a link for each grid.

    Attributes:
        classes: condition it on the classes of the data, where there are some.
        unconditional: share of the examples whose class is hidden in training.
        crop: for examples that differ in size: it is fitted to random parts of the grids of whole ones, of so many
            places a side of the coarsest grid, and draws grids of that size.
        shifts: of a set of sounds: each is encoded so many times, begun a part of a code later each time, which gives
            a small set many more codes to learn from.
        links: `[[prior.links]]`, one for each grid of codes in the order of the chain; where there are none, the table
            itself holds for every link.
    """

    classes: bool = True
    unconditional: float = Field(default=0.2, gt=0, le=1)
    crop: int | None = Field(default=None, gt=1)
    shifts: int = Field(default=1, gt=0)
    links: tuple[LinkFitConfig, ...] = ()

    def link(self, index: int) -> LinkFitConfig:
        """Give what holds for a link."""
        return self.links[index] if self.links else self


class ExactFitConfig(FitConfig):
    """How integers are fitted: as `FitConfig`, a short fit that begins where the one in floating point ended."""

    steps: int = Field(default=300, gt=0)
    batch_size: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=3e-4, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    final_learning_rate: float = Field(default=1e-6, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    precision: Literal["32-true"] = "32-true"
    validate_every: int = Field(default=100, gt=0)
    checkpoint_every: int = Field(default=100, gt=0)


class ExactLinkConfig(Section):
    """What the exact counterpart of a link of a prior is made of.

    Attributes:
        model: another prior for this link, without attention; None for that of `[prior]`.
        model_fit: how that other one is fitted in floating point first.
        fit: how the integers are fitted.
        distillation: 0 .. 1, share of the loss that is the divergence from the prior in floating point; the rest is the
            code length.
    """

    model: PriorModelConfig | None = None
    model_fit: FitConfig = FitConfig()
    fit: ExactFitConfig = ExactFitConfig()
    distillation: float = Field(default=0.5, ge=0, le=1)


class ExactConfig(ExactLinkConfig):
    """The `[exact]` table: how `fit-exact` turns a fitted prior into one of integers, which codes can be coded under.

    Attributes:
        links: `[[exact.links]]`, one for each grid of codes in the order of the chain; where there are none, the table
            itself holds for every link.
    """

    links: tuple[ExactLinkConfig, ...] = ()

    def link(self, index: int) -> ExactLinkConfig:
        """Give what holds for a link."""
        return self.links[index] if self.links else self


class Recipe(Section):
    """A whole recipe.

    Attributes:
        name: of the model in the store.
        start_from: folder of a run of the same model, whose best weights the fit begins with; None for fresh ones.
        data: what it is fitted to.
        model: what is fitted.
        objective: what is minimised.
        fit: how.
        prior: over the codes of the fitted model.
        exact: the prior's counterpart in exact integers.
        card: what people should know.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    start_from: Path | None = None
    data: DataConfig
    model: FamilyConfig
    objective: ObjectiveConfig = SGVBConfig()
    fit: FitConfig = FitConfig()
    prior: PriorConfig | None = None
    exact: ExactConfig | None = None
    card: CardConfig = CardConfig()


def read_recipe(path: Path, overrides: dict[str, str] | None = None) -> Recipe:
    """Read a recipe file and lay overrides over it.

    Args:
        path: the TOML file.
        overrides: dotted keys (`fit.steps`) with values written as in TOML; bare words count as strings.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: the file cannot be read, is not TOML, or does not fit; unknown keys name their nearest match.
    """
    return read_table(path, Recipe, overrides)


def read_table(path: Path, kind: type[Table], overrides: dict[str, str] | None = None) -> Table:
    """Read a TOML file as a recipe of a kind; see `read_recipe`."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        _set(table, key, _toml_value(value))
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error, table, kind)}") from error


def write_recipe(recipe: BaseModel) -> str:
    """Write a recipe as TOML, defaults included; reading it gives the same recipe."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _toml_value(text: str) -> Any:
    """Read a command-line value as TOML would, or as a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key, making tables on the way."""
    *tables, last = dotted.split(".")
    for name in tables:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--{dotted}: {name} is a value, not a table")
        table = inner
    table[last] = value


def _keys(table: dict[str, Any], location: tuple[int | str, ...]) -> list[str]:
    """Give the keys that a finding is about, without the tags that pydantic puts between for the kind of a table."""
    keys: list[str] = []
    inner: Any = table
    for index, part in enumerate(location):
        known = isinstance(inner, dict) and part in inner
        if known or index == len(location) - 1:
            keys.append(str(part))
            inner = inner[part] if known else None
    return keys


def _explain(error: ValidationError, table: dict[str, Any], kind: type[BaseModel]) -> str:
    """Turn pydantic's findings into one line each, with the nearest valid key for an unknown one."""
    lines = []
    for finding in error.errors(include_url=False):
        location = _keys(table, finding["loc"])
        name = ".".join(location)
        if finding["type"] == "extra_forbidden":
            nearest = difflib.get_close_matches(location[-1], _known_keys(kind), n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            lines.append(f"unknown key {name!r}{hint}")
        else:
            lines.append(f"{name}: {finding['msg']} (found {finding.get('input')!r})")
    return "; ".join(lines)


def _known_keys(model: type[BaseModel]) -> list[str]:
    """List the keys of a section and of all sections inside it."""
    definitions = model.model_json_schema()
    tables = [definitions, *definitions.get("$defs", {}).values()]
    return sorted({key for table in tables for key in table.get("properties", {})})
