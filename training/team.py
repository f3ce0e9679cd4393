"""Processes that fit one model together: each takes its share of every batch, and all take the same steps."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from torch import Tensor, distributed, nn

from training.errors import RecipeError
from training.recipe import FitConfig


def leads() -> bool:
    """Tell whether this process is the first of those that fit together; one that is alone leads."""
    together = distributed.is_available() and distributed.is_initialized()
    return not together or distributed.get_rank() == 0


class Team:
    """This process among those that fit together; more than one are started by Fabric, as the same command.

    Args:
        accelerator: `cpu` or `cuda`.
        config: how many there are.
        logger: of the leader.

    Raises:
        RecipeError: a batch cannot be shared equally.
    """

    def __init__(self, accelerator: str, config: FitConfig, logger: Logger) -> None:
        if config.batch_size % config.devices:
            raise RecipeError(
                f"a batch of {config.batch_size} cannot be shared equally by {config.devices} devices; "
                f"set fit.batch_size to a multiple of {config.devices}"
            )
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=config.devices,
            strategy="ddp" if config.devices > 1 else "auto",
            precision=config.precision,
            loggers=logger,
        )
        self.size = config.devices
        if self.size > 1:
            self.fabric.launch()

    @property
    def leads(self) -> bool:
        """Whether this process writes what is kept."""
        return self.fabric.is_global_zero

    def seed(self, seed: int, step: int) -> None:
        """Seed torch for a step: each process has noise of its own, the leader's that of one process alone."""
        bits = np.random.Philox(key=[seed, step], counter=[0, 0, self.fabric.global_rank, 0]).random_raw()
        torch.manual_seed(int(bits >> np.uint64(1)))

    def share(self, batch: Tensor) -> Tensor:
        """Give this process's part of a batch that all of them know."""
        return batch.chunk(self.size)[self.fabric.global_rank]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean of all processes' gradients; all must have those of the same parameters."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        ends = np.cumsum([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, flat.div_(self.size).tensor_split(ends[:-1].tolist()), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def means(self, figures: dict[str, Tensor]) -> dict[str, float]:
        """Give the means of figures over all processes."""
        values = torch.stack([value.detach().double().cpu() for value in figures.values()])
        return dict(zip(figures, self._sum(values).div(self.size).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is set in any process."""
        return bool(self._sum(torch.tensor(float(flag))))

    def from_leader(self, measure: Callable[[], float]) -> float:
        """Measure in the leader alone, and tell all."""
        value = measure() if self.leads else 0.0
        return float(self._sum(torch.tensor(value, dtype=torch.float64)))

    def _sum(self, values: Tensor) -> Tensor:
        """Add up the values of all processes, on the CPU."""
        if self.size == 1:
            return values
        total = values.to(self.fabric.device)
        distributed.all_reduce(total)
        return total.cpu()
