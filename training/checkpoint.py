"""Checkpoints: named tensors and a few counters in one safetensors file, replaced in one rename."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.errors import RunError


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        tensors: by dotted name, on the CPU.
        counters: plain JSON values.
    """

    tensors: dict[str, Tensor]
    counters: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Give the tensors under `name.`, without that prefix."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def write(path: Path, parts: dict[str, dict[str, Tensor]], counters: dict[str, Any]) -> None:
    """Write a checkpoint so that the file is either the old one or the new one, whatever happens.

    Args:
        path: the file.
        parts: tensors by name, by part (`model`, `ema`, `optimizer`).
        counters: values that JSON can hold.
    """
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    aside = path.with_name(f".{path.name}.part")
    save_file(tensors, aside, metadata={"counters": json.dumps(counters)})
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the file.

    Returns:
        Its tensors and counters.

    Raises:
        RunError: there is no such file, or it is not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            counters = json.loads((file.metadata() or {})["counters"])
    except FileNotFoundError as error:
        raise RunError(f"there is no checkpoint {path}; fit the recipe first") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} is not a checkpoint of latentd: {error}") from error
    return Checkpoint(tensors, counters)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimiser's state to `index.name` tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, slots in state.items() for name, value in slots.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; the hyperparameters stay those of the optimiser.

    A fused step walks a parameter and its moments in memory order, so the moments get the parameter's layout again.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        laid_out = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
        state.setdefault(int(index), {})[name] = laid_out.detach()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_module(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights into a module.

    Raises:
        RunError: the file's weights are not those of this module.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the recipe beside it; was the recipe edited? {error}") from error
