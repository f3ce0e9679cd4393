"""The graphs of a prior over codes: all places in parallel, a row, and a place at a time (see `artifact.codes`)."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int32, Int64
from torch import Tensor, nn

from artifact import manifest as schema
from artifact.codes import complete, sample_raster
from models.pixelcnn import GatedPixelCNN, PixelStep, RowStep
from training.graphs.spec import GraphSpec, run_modules


class Prior(nn.Module):
    """`codes, condition -> logits` of every place."""

    def __init__(self, prior: GatedPixelCNN) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, codes: Int[Tensor, "B h w"], condition: Int[Tensor, " B"] | None = None) -> Tensor:
        """Give the logits, classes last."""
        logits: Tensor = self.prior(codes, condition)
        return logits.permute(0, 2, 3, 1).float()


class PriorRow(nn.Module):
    """`codes of the row above, row, state, condition -> context of the row, next state`."""

    def __init__(self, prior: GatedPixelCNN) -> None:
        super().__init__()
        self.prior = prior

    def forward(
        self,
        codes: Int[Tensor, "B w"],
        position: Int[Tensor, " B"],
        state: Float[Tensor, "B L C r w"],
        condition: Int[Tensor, " B"] | None = None,
    ) -> RowStep:
        """Take a row."""
        step = self.prior.row(codes, position, state.to(_dtype(self.prior)), condition)
        return RowStep(step.context.float(), step.state.float())


class PriorPixel(nn.Module):
    """`code to the left, place, context, state -> logits, next state`."""

    def __init__(self, prior: GatedPixelCNN, width: int) -> None:
        super().__init__()
        self.prior, self.width = prior, width

    def forward(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        context: Float[Tensor, "B V"],
        state: Float[Tensor, "B L C r"],
    ) -> PixelStep:
        """Take a place."""
        dtype = _dtype(self.prior)
        step = self.prior.pixel(code, position % self.width, context.to(dtype), state.to(dtype))
        return PixelStep(step.logits.float(), step.state.float())


def _dtype(prior: GatedPixelCNN) -> torch.dtype:
    """Give the type that a prior computes in; what its graphs take and give is float32 all the same."""
    return prior.embedding.weight.dtype


def graphs(prior: GatedPixelCNN, height: int, width: int) -> tuple[GraphSpec, ...]:
    """List the graphs of a prior.

    Args:
        prior: in evaluation mode.
        height: rows of the grid.
        width: places in a row.

    Returns:
        `prior`, `prior_row` and `prior_pixel`.
    """
    K, C, L, r = prior.num_embeddings, prior.channels, len(prior.layers), prior.radius

    def codes(name: str, *grid: int) -> schema.Tensor:
        return schema.Tensor(name=name, dtype="int32", shape=("B", *grid), minimum=0, maximum=K - 1, unit="code")

    def numbers(name: str, *shape: int, unit: str = "hidden") -> schema.Tensor:
        return schema.Tensor(name=name, dtype="float32", shape=("B", *shape), unit=unit)

    def position(last: int) -> schema.Tensor:
        return schema.Tensor(name="position", dtype="int64", shape=("B",), minimum=0, maximum=last, unit="place")

    condition = (
        (
            schema.Tensor(
                name="condition", dtype="int64", shape=("B",), minimum=0, maximum=prior.num_classes, unit="class"
            ),
        )
        if prior.num_classes
        else ()
    )
    context = 2 * C * L
    return (
        GraphSpec(
            "prior",
            Prior(prior),
            (codes("codes", height, width), *condition),
            (numbers("logits", height, width, K, unit="logit"),),
        ),
        GraphSpec(
            "prior_row",
            PriorRow(prior),
            (codes("codes", width), position(height - 1), numbers("state_above", L, C, r, width), *condition),
            (numbers("context", width, context), numbers("next_state_above", L, C, r, width)),
        ),
        GraphSpec(
            "prior_pixel",
            PriorPixel(prior, width),
            (codes("code"), position(height * width - 1), numbers("context", context), numbers("state_left", L, C, r)),
            (numbers("logits", K, unit="logit"), numbers("next_state_left", L, C, r)),
        ),
    )


def draw(
    prior: GatedPixelCNN,
    grid: tuple[int, int],
    uniform: Float64[np.ndarray, "B places"],
    condition: Int64[np.ndarray, " B"] | None,
) -> Int32[np.ndarray, "B h w"]:
    """Draw codes from a prior in torch, by the steps that its graphs will take.

    Args:
        prior: in evaluation mode, on the CPU.
        grid: height and width.
        uniform: noise in [0, 1), of each place in raster order.
        condition: classes; None for a prior that takes none.

    Returns:
        The codes.
    """
    specs = graphs(prior, *grid)
    steps = sample_raster({spec.role: spec for spec in specs}, *grid, uniform, condition)
    return complete(steps, run_modules(specs))
