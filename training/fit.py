"""The fit loop: one for every family and objective, on Lightning Fabric.

All that is random in step t is a function of (seed, t) alone, so a checkpoint needs counters but no generator state,
and a resumed run repeats an unbroken one bit for bit on the CPU.
"""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from models.model import LatentVariableModel
from models.networks import ImageShape
from training import checkpoint, pictures
from training.data import Splits, load
from training.errors import RunError
from training.objectives import SGVB
from training.recipe import FitConfig, Recipe
from training.run import Run

ParamList = tuple[Tensor, ...] | list[Tensor]

_VALIDATION_BATCH = 500
_PICTURE_EXAMPLES = 32


@dataclass
class Progress:
    """Where a fit stands; all of it is in the checkpoint.

    Attributes:
        step: optimiser steps done, skipped ones included.
        skipped: steps left out because the loss or its gradient was not finite.
        best_elbo_nats: the best validation bound so far.
        best_step: the step that it was reached at.
        stale: looks at the validation bound since then.
    """

    step: int = 0
    skipped: int = 0
    best_elbo_nats: float = -math.inf
    best_step: int = 0
    stale: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON can hold them: no infinity."""
        return asdict(self) | {"best_elbo_nats": self.best_elbo_nats if self.best_step else None}

    @classmethod
    def from_json(cls, counters: dict[str, Any]) -> "Progress":
        """Read what `to_json` gave."""
        best = counters["best_elbo_nats"]
        return cls(**(counters | {"best_elbo_nats": -math.inf if best is None else best}))


def learning_rate(config: FitConfig, step: int) -> float:
    """Give the rate of a step: linear warmup, then half a cosine (Loshchilov & Hutter 2017, eq. 5).

    Args:
        config: the schedule.
        step: 0 .. steps - 1.

    Returns:
        The learning rate.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    swing = 0.5 * (1.0 + math.cos(math.pi * done))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * swing


def batch_indices(seed: int, step: int, batch_size: int, examples: int) -> Int64[np.ndarray, " B"]:
    """Give the examples of a step: each epoch is a permutation of its own, and steps run across its end.

    Args:
        seed: of the order.
        step: 0 ...
        batch_size: B.
        examples: in the training split.

    Returns:
        Indices, int64.
    """
    first = step * batch_size
    pieces = []
    while first < (step + 1) * batch_size:
        epoch, start = divmod(first, examples)
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(examples)
        piece = order[start : start + (step + 1) * batch_size - first]
        pieces.append(piece)
        first += len(piece)
    return np.concatenate(pieces)


def _moving_average(decay: float) -> Callable[[ParamList, ParamList, Tensor | int], None]:
    """Make the averaging step; young averages forget faster, min(decay, (1 + n) / (10 + n)), so that none is biased."""

    @torch.no_grad()
    def update(averaged: ParamList, current: ParamList, updates: Tensor | int) -> None:
        count = int(updates)
        torch._foreach_lerp_(list(averaged), list(current), 1.0 - min(decay, (1 + count) / (10 + count)))

    return update


class Fit:
    """A fit in progress.

    Args:
        run: where it is kept.
        recipe: what is fitted to what.
        splits: the data.
    """

    def __init__(self, run: Run, recipe: Recipe, splits: Splits) -> None:
        self.run, self.recipe, self.config, self.splits = run, recipe, recipe.fit, splits
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.logger = TensorBoardLogger(run.path, name=None, version="")
        self.fabric = Fabric(
            accelerator=self.config.device,
            devices=1,
            precision=self.config.precision,
            loggers=self.logger,
        )
        torch.manual_seed(self.config.seed)
        height, width, channels = splits.train.shape[1:]
        model = recipe.model.build(ImageShape(channels, height, width))
        for weight in model.parameters():
            if weight.dim() == 4:  # channels last, the layout that bfloat16 convolutions are fast in
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.average: AveragedModel = AveragedModel(model, multi_avg_fn=_moving_average(self.config.ema_decay))
        self.objective = SGVB(model, recipe.objective).to(self.fabric.device)
        self.average.to(self.fabric.device).eval()
        self.optimizers = {
            group: torch.optim.AdamW(
                parameters, lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
            )
            for group, parameters in self.objective.groups().items()
        }
        self.progress = Progress()

    @property
    def averaged(self) -> LatentVariableModel:
        """The model with averaged weights."""
        return cast("LatentVariableModel", self.average.module)

    def resume(self) -> None:
        """Go on from the run's last checkpoint.

        Raises:
            RunError: there is none, or it does not fit the recipe.
        """
        state = checkpoint.read(self.run.last)
        checkpoint.load_module(self.objective, state.part("objective"), self.run.last)
        checkpoint.load_module(self.average, state.part("average"), self.run.last)
        for group, optimizer in self.optimizers.items():
            checkpoint.load_optimizer(optimizer, state.part(f"optimizer.{group}"))
        self.progress = Progress.from_json(state.counters)

    def save(self) -> None:
        """Write the last checkpoint."""
        optimizers = {
            f"optimizer.{group}": checkpoint.optimizer_tensors(optimizer)
            for group, optimizer in self.optimizers.items()
        }
        parts = {"objective": self.objective.state_dict(), "average": self.average.state_dict(), **optimizers}
        checkpoint.write(self.run.last, parts, self.progress.to_json())

    def loop(self) -> Progress:
        """Step until the recipe's steps are done, the bound has stopped rising, or SIGINT or SIGTERM asks to stop."""
        bar = tqdm(total=self.config.steps, initial=self.progress.step, unit="step", desc=self.recipe.name)
        with bar, _stop_requested() as stop:
            while self.progress.step < self.config.steps and self.progress.stale < self.config.patience:
                elbo = self.step()
                self.progress.step += 1
                bar.update()
                bar.set_postfix_str(f"elbo {elbo:.2f} best {self.progress.best_elbo_nats:.2f} nats", refresh=False)
                if self.progress.step % self.config.validate_every == 0 or self.progress.step == self.config.steps:
                    self.look()
                elif self.progress.step % self.config.checkpoint_every == 0 or stop.is_set():
                    self.save()
                if stop.is_set():
                    self.save()
                    break
        return self.progress

    def step(self) -> float:
        """Do one optimiser step for every group; give the batch's mean ELBO in nats."""
        step, config = self.progress.step, self.config
        torch.manual_seed(int(np.random.Philox(key=[config.seed, step]).random_raw() >> np.uint64(1)))
        indices = batch_indices(config.seed, step, config.batch_size, len(self.splits.train))
        x = torch.from_numpy(self.splits.train[indices]).to(self.fabric.device)
        self.objective.train()
        elbo = math.nan
        with self.fabric.autocast():
            for part in self.objective.steps(x):
                elbo = part.bound.elbo.mean().item()
                self._minimise(part.group, part.loss)
        self.average.update_parameters(self.objective.model)
        if step % 50 == 0:
            self.fabric.log_dict(
                {
                    "train/elbo_nats": elbo,
                    "train/reconstruction_nats": part.bound.reconstruction.mean().item(),
                    "train/rate_nats": part.bound.rate.mean().item(),
                    "train/loss": part.loss.item(),
                    "train/learning_rate": learning_rate(config, step),
                    "train/skipped_steps": self.progress.skipped,
                },
                step=step,
            )
        return elbo

    def _minimise(self, group: str, loss: torch.Tensor) -> None:
        """Take a gradient step, or skip and count it where the loss or the gradient is not finite."""
        optimizer = self.optimizers[group]
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        parameters = self.objective.groups()[group]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self.progress.skipped += 1
            return
        for settings in optimizer.param_groups:
            settings["lr"] = learning_rate(self.config, self.progress.step)
        optimizer.step()

    def look(self) -> None:
        """Measure the validation bound of the averaged weights, keep them if they are the best, log pictures."""
        progress = self.progress
        elbo = validation_elbo(self.averaged, self.splits.validation, self.config.seed)
        self.fabric.log_dict({"validation/elbo_nats": elbo}, step=progress.step)
        if elbo > progress.best_elbo_nats:
            progress.best_elbo_nats, progress.best_step, progress.stale = elbo, progress.step, 0
            counters = {"step": progress.step, "validation_elbo_nats": elbo}
            checkpoint.write(self.run.best, {"model": self.averaged.state_dict()}, counters)
        else:
            progress.stale += 1
        writer = self.logger.experiment
        shown = self.splits.validation[:_PICTURE_EXAMPLES]
        writer.add_image("reconstructions", pictures.reconstructions(self.averaged, shown), progress.step, None, "HWC")
        writer.add_image("samples", pictures.samples(self.averaged, 64), progress.step, None, "HWC")
        self.save()


@torch.no_grad()
def validation_elbo(model: LatentVariableModel, images: UInt8[np.ndarray, "N H W C"], seed: int) -> float:
    """Give the mean ELBO over a split, one sample each, with the same noise at every call.

    Args:
        model: in evaluation mode.
        images: the split.
        seed: of the noise.

    Returns:
        Nats.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for first in range(0, len(images), _VALIDATION_BATCH):
        x = torch.from_numpy(images[first : first + _VALIDATION_BATCH]).to(device)
        noise = torch.randn(len(x), 1, model.bottleneck.dimensions, generator=generator).to(device)
        total += model.bound(x, noise).elbo.sum().item()
    return total / len(images)


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event, so that a fit ends after a whole step and a checkpoint."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(run: Run, recipe: Recipe, *, resume: bool) -> Progress:
    """Fit a recipe, from the start or from the run's last checkpoint.

    Args:
        run: the folder; made if it is not there.
        recipe: what is fitted.
        resume: go on with the run in the folder, whose recipe is then `recipe`.

    Returns:
        Where the fit ended.

    Raises:
        DataError: the data cannot be had.
        RunError: there is a run already, or none to resume.
    """
    splits = load(recipe.data)
    _check(recipe, splits)
    if not resume:
        run.create(recipe)
    state = Fit(run, recipe, splits)
    if resume and run.last.exists():
        state.resume()
    return state.loop()


def _check(recipe: Recipe, splits: Splits) -> None:
    """Refuse data that the likelihood gives no probability to, before any time is spent on them."""
    values = recipe.model.likelihood.build().values
    for name in ("train", "validation", "test"):
        images = getattr(splits, name)
        if len(images) == 0:
            raise RunError(f"the {name} split of {splits.name} is empty; give it examples or larger fractions")
        if values is not None and not np.isin(images[:256], values).all():
            raise RunError(
                f"the {recipe.model.likelihood.kind} likelihood takes pixels of {values} alone, "
                f"{splits.name} has others; choose model.likelihood.kind = 'gaussian' or binarised data"
            )
