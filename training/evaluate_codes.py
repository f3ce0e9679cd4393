"""Evaluation of a model of codes: distortion, use of the codebook, code lengths, and the bound that they make."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int64
from tqdm import tqdm

from artifact.codes import surprise_nats
from media.distortion import mse, psnr_db
from models.bottleneck import VectorQuantizedBottleneck
from models.model import LatentVariableModel
from models.pixelcnn import GatedPixelCNN
from training.codes import Codes, downsampling, statistics
from training.data import Examples
from training.pictures import intensities
from training.whole import padded

_BATCH = 100
_PEAK = 255.0


@dataclass
class _Measured:
    """What was measured of each picture so far."""

    codes: list[Codes] = field(default_factory=list)
    mse: list[float] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)
    reconstruction_nats: list[float] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)
    prior_nats: list[float] = field(default_factory=list)
    class_prior_nats: list[float] = field(default_factory=list)


@torch.inference_mode()
def evaluate_codes(
    model: LatentVariableModel,
    bottleneck: VectorQuantizedBottleneck,
    prior: GatedPixelCNN | None,
    examples: Examples,
    *,
    limit: int | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Measure a model of codes on a split, on whole pictures.

    Of a picture that had to be padded, only its own pixels count, in the distortion and in the bound: given the codes,
    pixels are independent.

    Args:
        model: in evaluation mode, on the CPU.
        bottleneck: the model's.
        prior: over its codes; None for the uniform one.
        examples: the split.
        limit: measure the first so many; None for all.
        progress: show a bar.

    Returns:
        Figures by name, names with units.
    """
    count = len(examples) if limit is None else min(limit, len(examples))
    factor = downsampling(model)
    found = _Measured()
    bar = tqdm(total=count, unit="picture", desc="codes", disable=not progress)
    with bar:
        for indices in _batches(examples, count):
            _measure(model, examples, indices, factor, found)
            if prior is not None:
                _measure_prior(prior, found.codes[-1], examples, indices, found)
            bar.update(len(indices))
    return _figures(bottleneck.quantizer.num_embeddings, prior, found)


def _batches(examples: Examples, count: int) -> Iterator[Int64[np.ndarray, " B"]]:
    """Group pictures that can go through the model together."""
    size = _BATCH if examples.uniform else 1
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))


def _measure(
    model: LatentVariableModel,
    examples: Examples,
    indices: Int64[np.ndarray, " B"],
    multiple_of: int,
    found: _Measured,
) -> None:
    """Measure pictures of one size."""
    given = np.stack([examples[index] for index in indices])
    x, placement = padded(given[0], multiple_of)
    images = torch.from_numpy(given if examples.uniform else x[None])
    codes = model.encode(images)["codes"]
    params = model.decode(model.bottleneck.point({"codes": codes}))
    answer = np.stack([placement.restore(image) for image in intensities(model.likelihood.mean(params))])
    log_p = [placement.restore(image) for image in model.likelihood.pixel_log_prob(images, params).numpy()]
    found.codes.append(codes.numpy())
    found.mse += mse(given, answer).tolist()
    found.psnr_db += psnr_db(given, answer, peak=_PEAK).tolist()
    found.reconstruction_nats += [float(nats.sum()) for nats in log_p]
    found.values += [given[0].size] * len(given)
    found.pixels += [given[0][..., 0].size] * len(given)


def _measure_prior(
    prior: GatedPixelCNN, codes: Codes, examples: Examples, indices: Int64[np.ndarray, " B"], found: _Measured
) -> None:
    """Measure the code lengths of a batch under the prior: of no class, and of their own."""
    conditions: list[tuple[list[float], torch.Tensor | None]] = [(found.prior_nats, None)]
    if prior.num_classes and examples.labels is not None:
        conditions.append((found.class_prior_nats, torch.from_numpy(examples.labels[indices])))
    for nats, condition in conditions:
        logits = prior(torch.from_numpy(codes), condition).permute(0, 2, 3, 1).numpy()
        nats += surprise_nats(logits, codes).sum(axis=(1, 2)).tolist()


def _figures(num_embeddings: int, prior: GatedPixelCNN | None, found: _Measured) -> dict[str, float]:
    """Turn what was measured into figures."""
    use = statistics(found.codes, num_embeddings)
    tokens = np.concatenate([np.full(len(codes), codes[0].size) for codes in found.codes]).astype(np.float64)
    pixels, values = float(sum(found.pixels)), np.array(found.values, dtype=np.float64)
    reconstruction, uniform_nats = np.array(found.reconstruction_nats), tokens * np.log(num_embeddings)
    rate_nats = uniform_nats if prior is None else np.array(found.prior_nats)
    raw_bits = float(np.ceil(np.log2(num_embeddings)))
    token_bits = {"raw": raw_bits, "entropy": use.entropy_bits, "order_1_entropy": use.order_1_entropy_bits}
    if prior is not None:
        token_bits["prior"] = _bits(found.prior_nats, tokens)
    if found.class_prior_nats:
        token_bits["prior_given_class"] = _bits(found.class_prior_nats, tokens)
    return {
        "examples": float(len(values)),
        "tokens": float(tokens.sum()),
        "mse": float(np.mean(found.mse)),
        "psnr_db": mean_psnr_db(np.array(found.psnr_db)),
        "usage": use.usage,
        "perplexity": use.perplexity,
        "perplexity_over_num_embeddings": use.perplexity / num_embeddings,
        "elbo_nats": float((reconstruction - rate_nats).mean()),
        "reconstruction_nats": float(reconstruction.mean()),
        "kl_nats": float(rate_nats.mean()),
        "bits_per_dim": _bits_per_dim(rate_nats - reconstruction, values),
        "bits_per_dim_under_uniform": _bits_per_dim(uniform_nats - reconstruction, values),
        **{f"{name}_bits_per_token": bits for name, bits in token_bits.items()},
        **{f"{name}_bits_per_pixel": bits * float(tokens.sum()) / pixels for name, bits in token_bits.items()},
    }


def mean_psnr_db(ratios: Float64[np.ndarray, " N"]) -> float:
    """Give the mean of the ratios of pictures that are not perfect, of which infinity would be the only mean."""
    finite = ratios[np.isfinite(ratios)]
    return float(finite.mean()) if len(finite) else 0.0


def _bits(nats: list[float], tokens: Float64[np.ndarray, " N"]) -> float:
    """Turn code lengths into bits a token."""
    return float(np.sum(nats) / (np.log(2.0) * tokens.sum()))


def _bits_per_dim(nats: Float64[np.ndarray, " N"], values: Float64[np.ndarray, " N"]) -> float:
    """Give the mean over pictures of bits a dimension."""
    return float((nats / (np.log(2.0) * values)).mean())
