"""Export of an exact VAE: the proof of its sums, its graphs beside torch, its golden integers, what it costs."""

import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32, UInt8

from artifact import latents_golden
from artifact.exact import ExactParity
from artifact.exact_latents import INFER, LATENTS_GOLDEN_FILE, LATENTS_WEIGHTS_FILE, ExactLatents
from artifact.golden import Run
from artifact.latent_networks import LatentNetworks
from artifact.latents_golden import outputs_of
from artifact.noise import POSTERIOR_STREAM, batch_normal
from artifact.sampling import complete
from codec import bits_back, normal
from models.exact.canonical import canonical_hash
from models.exact.layers import InexactError, accumulator_bounds
from models.exact.vae import ExactVAE
from models.model import LatentVariableModel
from training.description import described_graphs
from training.draft import Draft
from training.errors import ExportError
from training.exact.vae import FittedExactVAE
from training.graphs.exact import EXACT_OPSET, write_exact_graphs
from training.graphs.exact_latents import exact_latent_graphs
from training.graphs.spec import GraphSpec, run_modules
from training.parity import Graphs

_COMPARED = 256
"""Held-out pictures whose integers are compared."""
_MEASURED = 1000
"""Held-out pictures whose ELBO is measured."""
_DRAWS = 4
"""Latents of each of them."""
_GOLDEN = 2


def export_exact_latents(draft: Draft, fitted: FittedExactVAE | None, stage: Path) -> ExactLatents | None:
    """Write an exact VAE, where there is one, and hold it against torch.

    Args:
        draft: what is exported.
        fitted: its exact counterpart.
        stage: the folder to write to.

    Returns:
        What the manifest says of it; None where there is none.

    Raises:
        ExportError: its sums are not proven to be exact, a graph has operations that are not, or its integers differ
            from torch's.
    """
    if fitted is None:
        return None
    try:
        accumulator_bounds(fitted.network)
    except InexactError as error:
        raise ExportError(f"the exact VAE: {error}") from error
    specs = exact_latent_graphs(fitted.network, draft.splits.train.shape)
    write_exact_graphs(specs, stage / LATENTS_WEIGHTS_FILE)
    run, seen = Graphs(specs, stage).run, _seen(specs)
    x = _spread(draft.splits.test.fixed())
    parity = compare(fitted.network, specs, run, x[:_COMPARED])
    golden = stage / LATENTS_GOLDEN_FILE
    z = latents(_GOLDEN, fitted.network.dimensions)
    latents_golden.record(seen, x[:_GOLDEN], z, fitted.contexts, run, golden)
    part = ExactLatents(
        graphs=described_graphs(specs, stage, EXACT_OPSET),
        canonical_hash=canonical_hash(form(fitted)),
        sizes=fitted.network.sizes,
        float_elbo_nats=0.0,
        exact_elbo_nats=0.0,
        parity=parity,
    )
    networks, pictures = LatentNetworks(part, fitted.contexts), (x[..., 0] > 0).astype(np.uint8)
    noise = batch_normal(0, 0, len(x), (_DRAWS, sum(part.sizes)), stream=POSTERIOR_STREAM)
    bits = [complete(bits_back.net_bits(pictures, networks, noise[:, draw]), run) for draw in range(_DRAWS)]
    nats = {
        "float_elbo_nats": _float_elbo_nats(draft.model, x),
        "exact_elbo_nats": -float(np.mean(bits)) * math.log(2),
    }
    return part.model_copy(update=nats)


@torch.inference_mode()
def _float_elbo_nats(model: LatentVariableModel, x: UInt8[np.ndarray, "N H W C"]) -> float:
    """Give the mean ELBO under the model itself."""
    noise = batch_normal(0, 0, len(x), (_DRAWS, model.bottleneck.noise_dimensions), stream=POSTERIOR_STREAM)
    return float(model.bound(torch.from_numpy(x), torch.from_numpy(noise)).elbo.mean())


def form(fitted: FittedExactVAE) -> dict[str, object]:
    """Give all that two machines must agree on to read each other's archives, as JSON."""
    tables = {"normal": list(normal.distribution()), "inverse_scales": list(normal.inverse_scales())}
    return {"network": fitted.network.canonical(), "contexts": fitted.contexts.tolist()} | tables


def compare(network: ExactVAE, specs: tuple[GraphSpec, ...], run: Run, x: UInt8[np.ndarray, "N H W C"]) -> ExactParity:
    """Compare written graphs with the torch modules in float64, on pictures and on latents of the prior.

    Args:
        network: frozen.
        specs: its graphs.
        run: of the written graphs.
        x: pictures.

    Returns:
        What was compared.

    Raises:
        ExportError: an integer differs.
    """
    seen = _seen(specs)
    z = latents(len(x), network.dimensions)
    reference = exact_latent_graphs(deepcopy(network).double(), x.shape[1:])
    expected, found = (outputs_of(seen, x, z, each) for each in (run_modules(reference), run))
    for name, values in found.items():
        if differing := int((values != expected[name]).sum()):
            raise ExportError(
                f"of {values.size} integers of {name} that the exact VAE gives {differing} differ from torch's in "
                "float64; expected none, nothing was published"
            )
    return ExactParity(grids=len(x), integers=sum(values.size for values in found.values()))


def _seen(specs: tuple[GraphSpec, ...]) -> tuple[str, ...]:
    """Name what `infer_exact` takes."""
    (infer,) = (spec for spec in specs if spec.role == INFER)
    return tuple(tensor.name for tensor in infer.inputs)


def _spread(pictures: UInt8[np.ndarray, "N H W C"]) -> UInt8[np.ndarray, "n H W C"]:
    """Choose pictures from the whole of a split, which may be sorted."""
    return pictures[np.linspace(0, len(pictures) - 1, min(len(pictures), _MEASURED)).astype(int)]


def latents(count: int, dimensions: int) -> Int32[np.ndarray, "n D"]:
    """Draw latents of the prior, the same ones each time."""
    noise = batch_normal(0, 0, count, (dimensions,), stream=POSTERIOR_STREAM)
    zeros = np.zeros(noise.shape, dtype=np.int64)
    return normal.nearest(zeros, zeros + normal.UNIT_SCALE, noise).astype(np.int32)
