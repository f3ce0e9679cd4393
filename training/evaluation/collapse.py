"""How much z says of x, and whether the posterior has collapsed onto the prior."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from artifact.noise import POSTERIOR_STREAM, batch_normal
from models.bottleneck import Encoding
from models.continuous import ContinuousBottleneck
from models.model import LatentVariableModel
from training.evaluation.latents import continuous, log_posterior, log_prior, weighable
from training.evaluation.marginal import standard_error
from training.evaluation.plot import FAINT, GRID, INK, OWN
from training.posterior_collapse import UNUSED_NATS, collapse_warnings
from training.run import write_text

_BATCH = 500
_EXAMPLES = 2000
_PAIRS = 2**16
"""Of z and posterior that are weighed at once."""


@dataclass(frozen=True)
class Information:
    """What z says of x under q, from N examples.

    Attributes:
        mutual_information_nats: I(x; z) = E log q(z given x) / q(z).
        mutual_information_standard_error_nats: over the examples.
        mutual_information_at_most_nats: log N; an estimate near it says only that I(x; z) is no smaller.
        aggregate_kl_nats: KL(q(z) || p(z)), with q(z) = E_x q(z given x).
        aggregate_kl_standard_error_nats: over the examples.
    """

    mutual_information_nats: float
    mutual_information_standard_error_nats: float
    mutual_information_at_most_nats: float
    aggregate_kl_nats: float
    aggregate_kl_standard_error_nats: float


@dataclass(frozen=True)
class CollapseReport:
    """How the latents of a model are used.

    Attributes:
        kl_per_dimension_nats: mean KL(q || p); where it does not part into dimensions, of each level.
        information: None where the posterior weighs only what it has drawn, as some flows do.
        warnings: what is wrong.
    """

    kl_per_dimension_nats: tuple[float, ...]
    information: Information | None
    warnings: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """Give what is a single number, by name."""
        unused = sum(kl < UNUSED_NATS for kl in self.kl_per_dimension_nats)
        found = {"kl_unused_dimensions": float(unused)} if len(self.kl_per_dimension_nats) > 1 else {}
        return found | (asdict(self.information) if self.information is not None else {})

    def write(self, path: Path) -> None:
        """Write the numbers as JSON, and the KL of each dimension as a picture beside it."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")
        plot(self, path.with_suffix(".png"))


@torch.inference_mode()
def report(
    model: LatentVariableModel, data: Shaped[np.ndarray, "N *data"], *, seed: int, progress: bool = False
) -> CollapseReport:
    """Look at how latents are used on a split.

    Args:
        model: of real-valued latents, in evaluation mode.
        data: item i has index i; the information is that of the first 2,000.
        seed: of the noise.
        progress: show a bar.

    Returns:
        The report.

    Raises:
        RunError: the model has no prior over real-valued latents.
    """
    bottleneck, device = weighable(model), next(model.parameters()).device
    kl = kl_per_dimension(model, data, seed=seed)
    count = min(len(data), _EXAMPLES)
    noise = batch_normal(seed, 0, count, (1, bottleneck.noise_dimensions), stream=POSTERIOR_STREAM)
    parts = [model.encode(torch.from_numpy(data[part]).to(device)) for part in _parts(count)]
    encoding = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    try:
        found = information(bottleneck, encoding, torch.from_numpy(noise).to(device), progress=progress)
    except TypeError:
        found = None
    return CollapseReport(tuple(kl.tolist()), found, collapse_warnings(kl.tolist()))


@torch.inference_mode()
def kl_per_dimension(
    model: LatentVariableModel, data: Shaped[np.ndarray, "N *data"], *, seed: int = 0
) -> Float64[np.ndarray, " D"]:
    """Give the mean KL(q(z given x) || p(z)) of each dimension over examples.

    In closed form where there is one (Kingma & Welling 2014, appendix B), given one sample of the levels above where
    there are several; else the mean of log q - log p over one sample an example, of each level as a whole.

    Args:
        model: of real-valued latents, in evaluation mode.
        data: item i has index i.
        seed: of the noise.

    Returns:
        Nats.

    Raises:
        RunError: the latents are of another kind.
    """
    bottleneck, device = continuous(model), next(model.parameters()).device
    total: float | Float64[np.ndarray, " D"] = 0.0
    for part in _parts(len(data)):
        x = torch.from_numpy(data[part]).to(device)
        noise = batch_normal(seed, part.start, len(x), (1, bottleneck.noise_dimensions), stream=POSTERIOR_STREAM)
        total = total + _rates(bottleneck, model.encode(x), torch.from_numpy(noise).to(device)).sum(0).cpu().numpy()
    return np.asarray(total) / len(data)


def _parts(count: int) -> list[slice]:
    """Divide examples into batches."""
    return [slice(first, min(first + _BATCH, count)) for first in range(0, count, _BATCH)]


def _rates(
    bottleneck: ContinuousBottleneck, encoding: Encoding, noise: Float[Tensor, "B S N"]
) -> Float64[Tensor, "B D"]:
    """Give the KL of each dimension, or of each level."""
    closed = bottleneck.kl(encoding)
    if closed is not None:
        return closed.double()
    rates = [
        (level.log_q - level.log_p).mean(1, keepdim=True) if level.kl is None else level.kl
        for level in bottleneck.draw(encoding, noise)
    ]
    return torch.cat(rates, 1).double()


def information(
    bottleneck: ContinuousBottleneck, encoding: Encoding, noise: Float[Tensor, "N S M"], *, progress: bool = False
) -> Information:
    """Part the mean KL into what z says of x and how far q(z) is from the prior (Hoffman & Johnson 2016).

    E_x KL(q(z given x) || p(z)) = I(x; z) + KL(q(z) || p(z)), each by samples z from q(z given x). In the place of q(z)
    stands the mixture over the N examples themselves. Of the set of these, I is estimated without bias. For all x there
    could be it is too small, in expectation, since a z comes from a component of that mixture; it never exceeds log N.
    What it lacks, the aggregate KL has too much.

    Args:
        bottleneck: of real-valued latents.
        encoding: what `encode` answered for N examples.
        noise: of S samples of each.
        progress: show a bar.

    Returns:
        Both, with standard errors over the examples.

    Raises:
        TypeError: the posterior weighs only what it has drawn.
    """
    z = bottleneck.draw(encoding, noise)[-1].z
    own = log_posterior(bottleneck, encoding, z).double()
    count, dimensions = len(z), z.shape[-1]
    flat, width = z.reshape(-1, dimensions), max(1, _PAIRS // count)
    mixture = []
    for part in tqdm(torch.split(flat, width), unit="batch", desc="information", disable=not progress, leave=False):
        each = log_posterior(bottleneck, encoding, part.expand(count, *part.shape))
        mixture.append(torch.logsumexp(each.double(), dim=0) - np.log(count))
    aggregate = torch.cat(mixture).reshape(own.shape)
    mutual = (own - aggregate).mean(1).cpu().numpy()
    distance = (aggregate - log_prior(bottleneck, z).double()).mean(1).cpu().numpy()
    return Information(
        float(mutual.mean()),
        standard_error(mutual),
        float(np.log(count)),
        float(distance.mean()),
        standard_error(distance),
    )


def plot(found: CollapseReport, path: Path) -> None:
    """Draw the KL of each dimension, the largest first.

    Args:
        found: the report.
        path: of the PNG.
    """
    nats = sorted(found.kl_per_dimension_nats, reverse=True)
    figure = Figure(figsize=(7.2, 3.2), dpi=160, layout="constrained")
    axes = figure.subplots()
    axes.bar(range(1, len(nats) + 1), nats, color=[OWN[0] if kl >= UNUSED_NATS else FAINT for kl in nats], zorder=2)
    used = sum(kl >= UNUSED_NATS for kl in nats)
    axes.set_title(
        f"Mean KL of each dimension, nats: {sum(nats):.2f} in all, {used} of {len(nats)} above {UNUSED_NATS}",
        loc="left",
        fontsize=10,
        color=INK,
    )
    axes.set_xlabel("dimensions, largest KL first", fontsize=8, color=FAINT)
    axes.grid(axis="y", color=GRID, zorder=0)
    axes.tick_params(which="both", length=0, colors=FAINT, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(path)
