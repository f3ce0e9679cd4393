"""The exact VAE of a run: its networks in integers, a short fit of them, and the table for pictures coded directly."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from artifact.store import file_sha256
from codec.contexts import CONTEXTS, contexts
from models.exact.arithmetic import LOGIT_BITS
from models.exact.layers import accumulator_bounds, calibrating, freeze, linears
from models.exact.vae import Drawn, ExactVAE, UnsupportedModelError
from models.model import LatentVariableModel
from training import checkpoint
from training.data import Examples, Splits, load
from training.errors import RunError
from training.fit import Fit, Progress, batch_indices
from training.objectives import Objective, Step
from training.recipe import ExactConfig, FitConfig, Recipe
from training.run import Run

_FOLDER = "exact"
"""Of the fit, in that of the run."""
_CALIBRATED = 512
_UNUSED_NATS = 0.001
"""Latents whose mean KL is no more are left out."""
_VALIDATION_BATCH = 500
_PRIOR_COUNT = 0.4
"""Pixels of either colour that every context is taken to have had before the first picture."""


@dataclass(frozen=True)
class FittedExactVAE:
    """What pictures can be archived with.

    Attributes:
        network: frozen.
        contexts: logits of white of pictures that are coded directly, see `codec.contexts`.
    """

    network: ExactVAE
    contexts: Int32[np.ndarray, " contexts"]


class ExactELBO(Objective):
    """The ELBO of an exact VAE, z drawn on its grid, with gradients straight through all rounding.

    Args:
        model: calibrated.
    """

    model: ExactVAE

    def __init__(self, model: ExactVAE) -> None:
        super().__init__()
        self.model = model

    def steps(self, *batch: Tensor) -> Iterator[Step]:
        """Give the loss of a batch of pictures."""
        (x,) = batch
        drawn = self.model(x, torch.randn(len(x), self.model.dimensions, device=x.device))
        elbo = elbo_nats(x, drawn)
        yield Step("model", -elbo.mean(), elbo.mean().detach(), {"rate_nats": drawn.kl_nats.sum(1).mean().detach()})


def elbo_nats(x: Tensor, drawn: Drawn) -> Float[Tensor, " B"]:
    """Give log p(x given z) - KL of pictures (0 and 255), the KL as that of the normals behind the grid."""
    signs = x.float() / 127.5 - 1.0
    log_p = -functional.softplus(-signs * drawn.logits * 2.0**-LOGIT_BITS)
    return log_p.flatten(1).sum(1) - drawn.kl_nats.sum(1)


class ExactTask:
    """An exact VAE and the pictures that it is fitted to; see `training.fit.Task`.

    Args:
        recipe: of the run.
        config: how.
        network: calibrated.
        splits: the data.
        model_sha256: of the file of the weights that it was made of.
    """

    def __init__(self, recipe: Recipe, config: FitConfig, network: ExactVAE, splits: Splits, model_sha256: str) -> None:
        self.name, self.config, self.network, self.splits = f"{recipe.name} exact", config, network, splits
        self.origin = {"model_sha256": model_sha256}

    def objective(self) -> ExactELBO:
        """Fit the network itself."""
        return ExactELBO(self.network)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Give the pictures of a step."""
        examples, config = self.splits.train, self.config
        indices = batch_indices(config.seed, step, config.batch_size, len(examples))
        random = np.random.Generator(np.random.Philox(key=[config.seed, step]))
        return (torch.from_numpy(examples.batch(indices, random)),)

    def score_nats(self, model: nn.Module) -> float:
        """Give the mean ELBO of the validation split."""
        return mean_elbo_nats(cast("ExactVAE", model), self.splits.validation)

    def pictures(self, model: nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show nothing: they look as those of the model that it was made of."""
        del model
        return {}


@torch.no_grad()
def mean_elbo_nats(network: ExactVAE, examples: Examples) -> float:
    """Give the mean ELBO over a split, one draw of z each."""
    generator, total = torch.Generator().manual_seed(0), 0.0
    pictures, device = examples.fixed(), network.one.device
    for first in range(0, len(pictures), _VALIDATION_BATCH):
        x = torch.from_numpy(np.ascontiguousarray(pictures[first : first + _VALIDATION_BATCH])).to(device)
        noise = torch.randn(len(x), network.dimensions, generator=generator).to(device)
        total += float(elbo_nats(x, network(x, noise)).double().sum())
    return total / len(pictures)


def fit_exact_vae(run: Run, recipe: Recipe, *, resume: bool) -> Progress:
    """Turn the fitted VAE of a run into an exact one, and fit it on for a while.

    Args:
        run: with a fitted VAE.
        recipe: the run's, with the `[exact.fit]` table that counts from now on; the rest of the run's recipe stays.
        resume: go on from the last checkpoint of this fit.

    Returns:
        How it ended: its best ELBO on the validation split, at step 0 where no step made it better.

    Raises:
        DataError: the data cannot be had.
        RunError: the model is not fitted, has no exact counterpart, or a fit of it has begun already.
    """
    inner = Run(run.path / _FOLDER)
    if inner.last.exists() and not resume:
        raise RunError(f"{inner.path} holds a fit already; add --resume to go on with it, or move it away")
    splits = load(recipe.data)
    network = calibrated(run.model(recipe, splits.train.shape), splits.train)
    copied = {name: value.clone() for name, value in network.state_dict().items()}
    inner.path.mkdir(parents=True, exist_ok=True)
    exact = recipe.exact or ExactConfig()
    run.write_recipe(run.recipe().model_copy(update={"exact": exact}))
    task = ExactTask(recipe, exact.fit, network, splits, file_sha256(run.best))
    before_nats = task.score_nats(network)
    fit = Fit(inner, task)
    if resume and inner.last.exists():
        fit.resume()
    progress = fit.loop()
    if progress.best_nats > before_nats:
        copied = checkpoint.read(inner.best).part("model")
    else:
        progress.best_nats, progress.best_step = before_nats, 0
    checkpoint.load_module(network.cpu(), copied, inner.best)
    freeze(network)
    table = {"contexts": torch.from_numpy(context_logits(splits.train))}
    parts = {"network": network.state_dict(), "table": table}
    checkpoint.write(run.exact, parts, task.origin | {"validation_nats": progress.best_nats})
    return progress


def calibrated(model: LatentVariableModel, examples: Examples) -> ExactVAE:
    """Copy a fitted VAE as an exact one, its steps measured on data, without the latents that say nothing of them.

    Args:
        model: in evaluation mode.
        examples: to measure on.

    Returns:
        The exact VAE, with floating-point shadow weights.

    Raises:
        RunError: it has no exact counterpart.
    """
    try:
        network = ExactVAE(model)
    except (UnsupportedModelError, TypeError) as error:
        raise RunError(str(error)) from error
    indices = batch_indices(0, 0, min(_CALIBRATED, len(examples)), len(examples))
    x = torch.from_numpy(examples.batch(indices, np.random.default_rng(0)))
    noise = torch.randn(len(x), network.dimensions, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), calibrating(network):
        network(x, noise)
    accumulator_bounds(network)
    with torch.no_grad():
        rates_nats = network(x, noise).kl_nats.mean(0)
    network.keep((rates_nats > min(_UNUSED_NATS, float(rates_nats.max()) / 2)).float())
    return network


def read_exact_vae(run: Run, model: LatentVariableModel) -> FittedExactVAE | None:
    """Read the exact VAE of a run.

    Args:
        run: its files.
        model: the fitted VAE that it was made of.

    Returns:
        It, frozen; None where there is none.

    Raises:
        RunError: it was made of other weights.
    """
    path = run.exact
    if not path.exists():
        return None
    state = checkpoint.read(path)
    if state.counters.get("model_sha256") != file_sha256(run.best):
        raise RunError(f"{path} was made of other weights than {run.best} has now; run fit-exact {run.path} again")
    network = ExactVAE(model)
    for layer in linears(network).values():
        layer.freeze()
    checkpoint.load_module(network, state.part("network"), path)
    network.keep(network.kept.clone())
    accumulator_bounds(network)
    return FittedExactVAE(network.eval(), state.part("table")["contexts"].numpy())


def context_logits(examples: Examples) -> Int32[np.ndarray, " contexts"]:
    """Count how often pixels are white in each context.

    Args:
        examples: pictures of 0 and 255.

    Returns:
        Logits in units of 1/256 nats.
    """
    pictures = (examples.fixed()[..., 0] > 0).astype(np.uint8)
    counts = np.zeros((2, CONTEXTS))
    for first in range(0, len(pictures), _VALIDATION_BATCH):
        part = pictures[first : first + _VALIDATION_BATCH]
        for colour in range(2):
            counts[colour] += np.bincount(contexts(part)[part == colour], minlength=CONTEXTS)
    odds = (counts[1] + _PRIOR_COUNT) / (counts[0] + _PRIOR_COUNT)
    return np.rint(2**LOGIT_BITS * np.log(odds)).astype(np.int32)
