"""The canonical form of an exact network: all its integers as JSON, and their hash, whatever graphs are made of it."""

import hashlib
import json
from math import frexp
from typing import Any

import torch
from torch import Tensor, nn

from models.exact.arithmetic import WIDE_BITS
from models.exact.entries import Entry, Gate, Narrow
from models.exact.layers import ExactConv, ExactEmbedding, ExactLinear, ExactUpsampling
from models.exact.tables import INDEX_SHIFT, SIGMOID_BITS, TANH_BITS, sigmoid_table, tanh_table

Canonical = dict[str, Any]
"""What JSON can hold, its numbers integers alone."""


def network_form(network: nn.Module) -> Canonical:
    """Give the integers of all layers of a network.

    A linear map of narrow integers q gives y = clip((W q + b + half) >> shift, -2^22, 2^22), by channel, where half is
    2^(shift - 1), or 0 with a shift below 1, which is one to the left. Before it, its entry makes q of wide integers x:
    clip((x + half) >> shift, least, 127); that of a gate first makes x = tanh[i] sigmoid[j] of the two halves of its
    channels, where the index of a wide integer is clip((x >> 3) + 1024, 0, 2047).

    Args:
        network: of exact layers.

    Returns:
        `layers` by name, and `tables` where there are gates.
    """
    layers = {name: _layer(module) for name, module in network.named_modules() if _is_layer(module)}
    gated = any(isinstance(module, Gate) for module in network.modules())
    tables = {"index_shift": INDEX_SHIFT, "tanh": list(tanh_table()), "sigmoid": list(sigmoid_table())}
    return {"layers": layers} | ({"tables": tables} if gated else {})


def canonical_bytes(form: Canonical) -> bytes:
    """Give the bytes that are hashed: JSON in ASCII, keys sorted, no spaces."""
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def canonical_hash(form: Canonical) -> str:
    """Give the sha256 of a canonical form, in hexadecimal digits."""
    return hashlib.sha256(canonical_bytes(form)).hexdigest()


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, ExactLinear | ExactEmbedding)


def _layer(module: nn.Module) -> Canonical:
    if isinstance(module, ExactEmbedding):
        return {"kind": "embedding", "weight": _integers(module.integers())}
    if not isinstance(module, ExactLinear):
        raise TypeError(f"{type(module).__name__} is no layer with integers of its own")
    weight, bias = module.integers()
    found = {
        "kind": "linear",
        "weight": _integers(weight),
        "bias": _integers(bias),
        "shift": [-_exponent(scale) for scale in module.scale.tolist()],
        "entry": _entry(module.entry),
    }
    if isinstance(module, ExactConv):
        geometry = {"kernel": list(module.kernel), "stride": module.stride, "padding": module.padding}
        found |= {"kind": "convolution"} | geometry
    if isinstance(module, ExactUpsampling):
        found |= {"kind": "upsampling", "factor": module.factor}
    return found


def _entry(entry: Entry) -> Canonical:
    """Describe what makes the narrow integers of a map, without its step where none is divided by."""
    exponent = _exponent(float(entry.step))
    if isinstance(entry, Narrow):
        return {"kind": "narrow", "shift": WIDE_BITS + exponent, "least": 0 if entry.rectified else -127}
    if isinstance(entry, Gate):
        return {"kind": "gate", "shift": TANH_BITS + SIGMOID_BITS + exponent, "least": -127}
    return {"kind": "given"}


def _exponent(power: float) -> int:
    """Give e of 2^e."""
    mantissa, exponent = frexp(power)
    if mantissa != 0.5:
        raise ValueError(f"{power} is no power of 2")
    return exponent - 1


def _integers(x: Tensor) -> Any:
    """Give nested lists of integers."""
    return x.detach().cpu().to(torch.int64).tolist()
