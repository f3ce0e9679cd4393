"""The fit loop: one for every model, prior and objective, on Lightning Fabric.

All that is random in step t is a function of (seed, t) alone, so a checkpoint needs counters but no generator state,
and a resumed run repeats an unbroken one bit for bit on the CPU.
"""

import math
import signal
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from training import checkpoint
from training.errors import RunError
from training.objectives import Objective, Step
from training.recipe import Device, FitConfig
from training.run import Run
from training.team import Team

ParamList = tuple[Tensor, ...] | list[Tensor]

_WINDOW = 100
"""Steps over which the figures of a fit are averaged."""
_LOG_EVERY = 50


class Task(Protocol):
    """What is fitted to what.

    Attributes:
        name: for the progress bar.
        config: how.
        origin: what the fitted weights depend on besides; kept beside them.
    """

    name: str
    config: FitConfig
    origin: dict[str, str]

    def objective(self) -> Objective:
        """Make the objective with a model freshly initialised from torch's global generator."""
        ...

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Give the data of a step, a function of its number alone."""
        ...

    def score_nats(self, model: nn.Module) -> float:
        """Measure a model in evaluation mode over the validation split: more is better."""
        ...

    def pictures(self, model: nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show what a model does, by name."""
        ...


@dataclass
class Progress:
    """Where a fit stands; all of it is in the checkpoint.

    Attributes:
        step: optimiser steps done, skipped ones included.
        skipped: steps left out because the loss or its gradient was not finite.
        best_nats: the best validation score so far, or the last where the last weights are kept.
        best_step: the step that it was reached at.
        stale: looks at the validation score since then.
        figures: means over the last steps, by name with unit.
        score_name: what the score is.
    """

    step: int = 0
    skipped: int = 0
    best_nats: float = -math.inf
    best_step: int = 0
    stale: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    score_name: str = "bound"

    def to_json(self) -> dict[str, Any]:
        """Give the counters as JSON can hold them, without infinity; figures begin anew."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("figures", "score_name")}
        return fields | {"best_nats": self.best_nats if self.best_step else None}

    @classmethod
    def from_json(cls, counters: dict[str, Any], score_name: str) -> "Progress":
        """Read what `to_json` gave."""
        best = counters["best_nats"]
        return cls(**(counters | {"best_nats": -math.inf if best is None else best, "score_name": score_name}))


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


def accelerator(device: Device) -> str:
    """Choose what to compute on.

    Args:
        device: as in the recipe.

    Returns:
        `cpu` or `cuda`.

    Raises:
        RunError: CUDA is demanded, and does not work.
    """
    works = torch.cuda.is_available()
    if device == "cuda" and not works:
        raise RunError("fit.device is cuda, but torch finds no CUDA device; set it to cpu, or to auto")
    return "cuda" if works and device != "cpu" else "cpu"


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
        task: what is fitted to what.
    """

    def __init__(self, run: Run, task: Task) -> None:
        self.run, self.task, self.config = run, task, task.config
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.logger = TensorBoardLogger(run.path, name=None, version="")
        self.team = Team(accelerator(self.config.device), self.config, self.logger)
        self.fabric = self.team.fabric
        torch.manual_seed(self.config.seed)
        self.objective = task.objective()
        for weight in self.objective.parameters():
            if weight.dim() == 4:  # channels last, the layout that bfloat16 convolutions are fast in
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.average: AveragedModel = AveragedModel(
            self.objective.model, multi_avg_fn=_moving_average(self.config.ema_decay)
        )
        self.objective.to(self.fabric.device)
        self.average.to(self.fabric.device).eval()
        self.groups = {
            group: [weight for weight in weights if weight.requires_grad]
            for group, weights in self.objective.groups().items()
        }
        self.optimizers = {
            group: torch.optim.AdamW(
                parameters, lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
            )
            for group, parameters in self.groups.items()
        }
        self.progress = Progress(score_name=self.objective.score_name)
        self._recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))

    @property
    def scored(self) -> str:
        """The name of the figure that the objective scores by."""
        return f"{self.objective.score_name}_nats"

    @property
    def averaged(self) -> nn.Module:
        """The model with averaged weights."""
        return self.average.module

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
        self.progress = Progress.from_json(state.counters, self.objective.score_name)

    def save(self) -> None:
        """Write the last checkpoint."""
        if not self.team.leads:
            return
        optimizers = {
            f"optimizer.{group}": checkpoint.optimizer_tensors(optimizer)
            for group, optimizer in self.optimizers.items()
        }
        parts = {"objective": self.objective.state_dict(), "average": self.average.state_dict(), **optimizers}
        checkpoint.write(self.run.last, parts, self.progress.to_json())

    def loop(self) -> Progress:
        """Step until the recipe's steps are done, the score has stopped rising, or SIGINT or SIGTERM asks to stop."""
        hidden = not self.team.leads
        bar = tqdm(
            total=self.config.steps, initial=self.progress.step, unit="step", desc=self.task.name, disable=hidden
        )
        with bar, _stop_requested() as stop:
            while self.progress.step < self.config.steps and self.progress.stale < self.config.patience:
                score = self.step()
                self.progress.step += 1
                stopping = self.team.any(stop.is_set())
                bar.update()
                told = f"{self.objective.score_name} {score:.2f} best {self.progress.best_nats:.2f} nats"
                bar.set_postfix_str(told, refresh=False)
                if self.progress.step % self.config.validate_every == 0 or self.progress.step == self.config.steps:
                    self.look()
                elif self.progress.step % self.config.checkpoint_every == 0 or stopping:
                    self.save()
                if stopping:
                    self.save()
                    break
        return self.progress

    def step(self) -> float:
        """Do one optimiser step for every group whose turn it is; give the batch's mean score in nats."""
        step, config = self.progress.step, self.config
        self.team.seed(config.seed, step)
        batch = tuple(self.team.share(tensor).to(self.fabric.device) for tensor in self.task.batch(step))
        self.objective.train()
        with self.fabric.autocast():
            for part in self.objective.steps(*batch):
                followed = self.team.means(
                    {self.scored: part.log_p_nats, f"{part.group}_loss": part.loss, **part.figures}
                )
                self._minimise(part, followed[f"{part.group}_loss"])
                self._follow(followed)
        self.average.update_parameters(self.objective.model)
        if step % _LOG_EVERY == 0 or step == config.steps - 1:
            self.progress.figures = {name: float(np.mean(values)) for name, values in self._recent.items()}
            schedule = {"learning_rate": learning_rate(config, step), "skipped_steps": float(self.progress.skipped)}
            figures = self.progress.figures | schedule
            self.fabric.log_dict({f"train/{name}": value for name, value in figures.items()}, step=step)
        return self._recent[self.scored][-1]

    def _follow(self, figures: dict[str, float]) -> None:
        """Keep the figures of the last steps."""
        for name, value in figures.items():
            self._recent[name].append(value)

    def _minimise(self, part: Step, mean_loss: float) -> None:
        """Take a gradient step of one group, or skip and count it where the loss or the gradient is not finite."""
        optimizer, parameters = self.optimizers[part.group], self.groups[part.group]
        optimizer.zero_grad()
        torch.autograd.backward(part.loss, inputs=parameters, retain_graph=part.shares_graph)
        self.team.average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)
        if not (math.isfinite(mean_loss) and torch.isfinite(norm)):
            self.progress.skipped += 1
            return
        for settings in optimizer.param_groups:
            settings["lr"] = learning_rate(self.config, self.progress.step)
        optimizer.step()

    def look(self) -> None:
        """Measure the averaged weights on the validation split, keep them if they are the best, log pictures."""
        progress = self.progress
        score = self.team.from_leader(lambda: self.task.score_nats(self.averaged))
        self.fabric.log_dict({f"validation/{self.scored}": score}, step=progress.step)
        if score > progress.best_nats or self.objective.keeps == "last":
            progress.best_nats, progress.best_step, progress.stale = score, progress.step, 0
            counters = {"step": progress.step, "validation_nats": score} | self.task.origin
            if self.team.leads:
                checkpoint.write(self.run.best, {"model": self.averaged.state_dict()}, counters)
        else:
            progress.stale += 1
        if self.team.leads:
            self._show()
        self.save()

    def _show(self) -> None:
        """Log what cannot be seen from figures."""
        progress = self.progress
        for warning in self.objective.warnings():
            tqdm.write(f"{self.task.name}, step {progress.step}: warning: {warning}", file=sys.stderr)
            self.logger.experiment.add_text("warning", warning, progress.step)
        for name, picture in self.task.pictures(self.averaged).items():
            self.logger.experiment.add_image(name, picture, progress.step, None, "HWC")


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
