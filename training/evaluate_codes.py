"""Evaluation of a model of codes: distortion, use of the codebook, code lengths, and the bound that they make."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from tqdm import tqdm

from media.distortion import mse, psnr_db
from media.mel import mel_distance_db
from media.si_sdr import si_sdr_db
from models.autoregressive import AutoregressiveModel
from models.bottleneck import DiscreteBottleneck, Encoding
from models.chain import Chain
from models.code_priors import Conditions
from models.model import LatentVariableModel
from training.codes import (
    Codebook,
    Codes,
    CodeStatistics,
    codebooks,
    collapse_warnings,
    downsampling,
    first_codebooks,
    raw_bits,
    statistics,
)
from training.data import Examples, Recordings
from training.errors import RunError
from training.links import labels_of
from training.markov import markov_bits
from training.pictures import intensities
from training.whole import padded

_BATCH = 100
_DRAWN = 8
"""Examples whose distortion is measured where a decoder draws them sample by sample, which takes long."""
_PEAK = 255.0

Data = NDArray[Any]


@dataclass
class _Measured:
    """What was measured of each picture or sound so far; distortions by name."""

    codes: list[dict[str, Codes]] = field(default_factory=list)
    prefixes: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    distortion: dict[str, list[float]] = field(default_factory=dict)
    reconstruction_nats: list[float] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)
    prior_nats: list[list[float]] = field(default_factory=list)
    class_prior_nats: list[list[float]] = field(default_factory=list)


@torch.inference_mode()
def evaluate_codes(
    model: LatentVariableModel,
    bottleneck: DiscreteBottleneck,
    prior: Chain | None,
    examples: Examples,
    *,
    learned: Sequence[Mapping[str, Codes]] = (),
    limit: int | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Measure a model of codes on a split, on whole pictures or sounds.

    Of an example that had to be padded, only its own pixels or samples count, in the distortion and in the bound: given
    the codes, they do not depend on those behind them. What a decoder can be conditioned on counts as not known, but
    for the distortions whose names say what is given.

    Args:
        model: in evaluation mode, on the CPU.
        bottleneck: the model's.
        prior: over its codes; None for the uniform one.
        examples: the split.
        learned: codes by name of other examples, from which a Markov chain is learned to compare the prior with; none
            for no such comparison.
        limit: measure the first so many; None for all.
        progress: show a bar, and warn of collapsed codebooks.

    Returns:
        Figures by name, names with units.

    Raises:
        RunError: an example has more codes than the prior has a probability of.
    """
    count = len(examples) if limit is None else min(limit, len(examples))
    factor = downsampling(model)
    found = _Measured()
    bar = tqdm(total=count, unit="example", desc="codes", disable=not progress)
    with bar:
        for indices in _batches(examples, count):
            _measure(model, bottleneck, examples, indices, factor, found)
            if prior is not None:
                _measure_prior(prior, bottleneck, examples, indices, found)
            bar.update(len(indices))
    if progress:
        for warning in collapse_warnings(bottleneck, found.codes):
            tqdm.write(f"warning: {warning}", file=sys.stderr)
    return _figures(bottleneck, prior, learned, found, _rate_unit(examples))


def _batches(examples: Examples, count: int) -> Iterator[Int64[np.ndarray, " B"]]:
    """Group examples that can go through the model together."""
    size = _BATCH if examples.uniform else 1
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))


def _measure(
    model: LatentVariableModel,
    bottleneck: DiscreteBottleneck,
    examples: Examples,
    indices: Int64[np.ndarray, " B"],
    multiple_of: int,
    found: _Measured,
) -> None:
    """Measure examples of one size."""
    given = np.stack([examples[index] for index in indices])
    x, placement = padded(given[0], multiple_of)
    data = torch.from_numpy(given if examples.uniform else x[None])
    encoding = model.encode(data)
    codes = {name: value.numpy() for name, value in encoding.items()}

    def restored(mean: torch.Tensor) -> Data:
        answer = intensities(mean) if given.dtype == np.uint8 else mean.numpy()
        return np.stack([placement.restore(one) for one in answer])

    def decoded(encoding: Encoding, conditions: Conditions | None = None) -> Data:
        return restored(model.mean(bottleneck.point(encoding), conditions))

    params = model.weighing(data, bottleneck.point(encoding))
    log_p = [placement.restore(one) for one in model.likelihood.pixel_log_prob(data, params).numpy()]
    found.codes.append(codes)
    found.reconstruction_nats += [float(nats.sum()) for nats in log_p]
    found.values += [given[0].size] * len(given)
    found.pixels += [log_p[0].size] * len(given)
    is_drawn = isinstance(model, AutoregressiveModel)
    if is_drawn and len(found.codes) > _DRAWN:
        return
    answer = decoded(encoding) if is_drawn else restored(model.likelihood.mean(params))
    _add(found.distortion, _distortions(given, answer, examples))
    if model.conditions:
        known = {name: torch.from_numpy(examples.conditions[name][indices]) for name in model.conditions}
        told = _distortions(given, decoded(encoding, known), examples)
        _add(found.distortion, {f"{name}_given_{'_and_'.join(known)}": values for name, values in told.items()})
    for count in range(1, max(quantizer.num_codebooks for quantizer in bottleneck.quantizers)):
        first = first_codebooks(bottleneck, codes, count)
        coarse = decoded({name: torch.from_numpy(value) for name, value in first.items()})
        _add(found.prefixes.setdefault(count, {}), _distortions(given, coarse, examples))


def _distortions(given: Data, answer: Data, examples: Examples) -> dict[str, list[float]]:
    """Measure how far answers are from what went in, by name of the figure."""
    if isinstance(examples, Recordings):
        return {
            "mse": np.square(given - answer).mean(axis=1).tolist(),
            "si_sdr_db": si_sdr_db(given, answer).tolist(),
            "mel_distance_db": mel_distance_db(given, answer, examples.sample_rate_hz).tolist(),
        }
    return {"mse": mse(given, answer).tolist(), "psnr_db": psnr_db(given, answer, peak=_PEAK).tolist()}


def _add(all_values: dict[str, list[float]], values: Mapping[str, list[float]]) -> None:
    """Put values behind those that there are."""
    for name, more in values.items():
        all_values.setdefault(name, []).extend(more)


def _measure_prior(
    prior: Chain, bottleneck: DiscreteBottleneck, examples: Examples, indices: Int64[np.ndarray, " B"], found: _Measured
) -> None:
    """Measure the code lengths of a batch under each link: of no class, and of their own."""
    grids = tuple(torch.from_numpy(book.grid(found.codes[-1])) for book in codebooks(bottleneck))
    if not prior.covers(grids):
        most = " or ".join(f"{math.prod(grid.shape)}" for grid in prior.grids)
        raise RunError(
            f"example {indices[0]} has {grids[0][0].numel()} codes, and the prior knows at most {most}; fit a prior of "
            "kind 'wavenet', which knows every length, or one to a larger data.length"
        )
    found.prior_nats += (-prior.log_probs(grids)).tolist()
    labels = {name: torch.from_numpy(one[indices]) for name, one in labels_of(examples, prior.conditions).items()}
    if labels:
        found.class_prior_nats += (-prior.log_probs(grids, labels)).tolist()


def _rate_unit(examples: Examples) -> tuple[str, float]:
    """Name the unit of rates, and give how many of it are a bit a pixel or a sample."""
    if isinstance(examples, Recordings):
        return "kbit_per_s", examples.sample_rate_hz / 1000.0
    return "bits_per_pixel", 1.0


def _figures(
    bottleneck: DiscreteBottleneck,
    prior: Chain | None,
    learned: Sequence[Mapping[str, Codes]],
    found: _Measured,
    unit: tuple[str, float],
) -> dict[str, float]:
    """Turn what was measured into figures."""
    rate, scale = unit
    books = codebooks(bottleneck)
    grids = {book: [book.grid(codes) for codes in found.codes] for book in books}
    uses = {book: statistics(grids[book], book.num_embeddings) for book in books}
    tokens = {book: np.concatenate([np.full(len(one), one[0].size) for one in grids[book]]) for book in books}
    total, pixels = float(sum(count.sum() for count in tokens.values())), float(sum(found.pixels))
    values, reconstruction = np.array(found.values, dtype=np.float64), np.array(found.reconstruction_nats)
    uniform_nats = np.sum([tokens[book] * np.log(book.num_embeddings) for book in books], axis=0)
    rate_nats = uniform_nats if prior is None else np.array(found.prior_nats).sum(axis=1)
    each_bits: dict[str, Callable[[Codebook], float]] = {
        "raw": raw_bits,
        "entropy": lambda book: uses[book].entropy_bits,
        "order_1_entropy": lambda book: uses[book].order_1_entropy_bits,
    }
    if learned:
        others = {book: [book.grid(codes) for codes in learned] for book in books}
        markov = {book: markov_bits(others[book], grids[book], book.num_embeddings) for book in books}
        each_bits["markov"] = lambda book: markov[book]
    bits = {name: sum(bits(book) * float(tokens[book].sum()) for book in books) for name, bits in each_bits.items()}
    if prior is not None:
        bits["prior"] = float(np.sum(found.prior_nats) / np.log(2.0))
    if found.class_prior_nats:
        bits["prior_given_class"] = float(np.sum(found.class_prior_nats) / np.log(2.0))
    return {
        "examples": float(len(values)),
        "tokens": total,
        **{name: finite_mean(np.array(values)) for name, values in found.distortion.items()},
        **_uses(uses),
        "elbo_nats": float((reconstruction - rate_nats).mean()),
        "reconstruction_nats": float(reconstruction.mean()),
        "kl_nats": float(rate_nats.mean()),
        "bits_per_dim": _bits_per_dim(rate_nats - reconstruction, values),
        "bits_per_dim_under_uniform": _bits_per_dim(uniform_nats - reconstruction, values),
        **{f"{name}_bits_per_token": value / total for name, value in bits.items()},
        **{f"{name}_{rate}": scale * value / pixels for name, value in bits.items()},
        **_links(books, tokens, each_bits, found),
        **_prefixes(books, tokens, pixels / scale, rate, found),
    }


def _uses(uses: Mapping[Codebook, CodeStatistics]) -> dict[str, float]:
    """Say how codebooks are used: the least of all, and where there are several each one's."""
    figures = {
        "usage": min(use.usage for use in uses.values()),
        "perplexity": min(use.perplexity for use in uses.values()),
        "perplexity_over_num_embeddings": min(use.perplexity / book.num_embeddings for book, use in uses.items()),
    }
    for book, use in uses.items():
        if book.label:
            figures[f"usage_{book.label}"] = use.usage
            figures[f"perplexity_over_num_embeddings_{book.label}"] = use.perplexity / book.num_embeddings
    return figures


def _links(
    books: Sequence[Codebook],
    tokens: Mapping[Codebook, Int64[np.ndarray, " N"]],
    each_bits: Mapping[str, Callable[[Codebook], float]],
    found: _Measured,
) -> dict[str, float]:
    """Give bits a token of each grid of codes, where there are several."""
    if len(books) == 1:
        return {}
    figures = {f"{name}_bits_per_token_{book.label}": bits(book) for name, bits in each_bits.items() for book in books}
    for name, nats in (("prior", found.prior_nats), ("prior_given_class", found.class_prior_nats)):
        if nats:
            bits = np.sum(nats, axis=0) / np.log(2.0)
            totals = zip(books, bits, strict=True)
            figures |= {f"{name}_bits_per_token_{book.label}": float(one / tokens[book].sum()) for book, one in totals}
    return figures


def _prefixes(
    books: Sequence[Codebook],
    tokens: Mapping[Codebook, Int64[np.ndarray, " N"]],
    size: float,
    rate: str,
    found: _Measured,
) -> dict[str, float]:
    """Say what the first codebooks alone give, where there are several."""
    figures: dict[str, float] = {}
    for count, distortion in found.prefixes.items():
        raw = sum(raw_bits(book) * float(tokens[book].sum()) for book in books if book.index < count)
        figures |= {
            **{f"{name}_first_{count}": finite_mean(np.array(values)) for name, values in distortion.items()},
            f"raw_{rate}_first_{count}": raw / size,
        }
    return figures


def finite_mean(figures: Float64[np.ndarray, " N"]) -> float:
    """Give the mean of figures that are finite: the ratio of a perfect picture would be the only mean."""
    finite = figures[np.isfinite(figures)]
    return float(finite.mean()) if len(finite) else 0.0


def _bits_per_dim(nats: Float64[np.ndarray, " N"], values: Float64[np.ndarray, " N"]) -> float:
    """Give the mean over pictures of bits a dimension."""
    return float((nats / (np.log(2.0) * values)).mean())
