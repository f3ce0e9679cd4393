"""A decoder of pictures pixel by pixel, p(x given z) = prod p(x_i given x_<i, z) (van den Oord et al. 2016)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from models.code_priors import Memory
from models.likelihoods import Likelihood
from models.pixelcnn import GatedPixelCNN

_VALUES = range(256)


class PixelCNNDecoder(nn.Module):
    """A gated PixelCNN over the pixels of grey pictures, each of whose places is told what z says of it.

    A pixel depends on those before it as far as the layers reach, so that few layers of a small radius leave to z what
    many would explain without it (Chen et al. 2017).

    Args:
        upsample: from z to features of every place, `[N, D] -> [N, features, H, W]`.
        values: that a pixel can have; None for 0 .. 255.
        outputs: numbers that the likelihood wants for a pixel.
        features: G.
        channels: see `GatedPixelCNN`.
        layers: likewise.
        radius: likewise.
        hidden: likewise.
        dropout: likewise.
    """

    order: Tensor

    def __init__(
        self,
        upsample: nn.Module,
        values: Sequence[int] | None,
        outputs: int,
        *,
        features: int,
        channels: int,
        layers: int,
        radius: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        values = tuple(_VALUES if values is None else values)
        order = torch.zeros(len(_VALUES), dtype=torch.int64)
        order[list(values)] = torch.arange(len(values))
        self.register_buffer("order", order, persistent=False)
        self.upsample = upsample
        self.pixelcnn = GatedPixelCNN(
            len(values),
            channels=channels,
            layers=layers,
            radius=radius,
            hidden=hidden,
            dropout=dropout,
            features=features,
            outputs=outputs,
        )

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N G H W"]:
        """Give what z says of every place."""
        features: Tensor = self.upsample(z)
        return features

    def codes(self, x: UInt8[Tensor, "N *places 1"]) -> Int[Tensor, "N *places"]:
        """Number pixels by the values that they can have."""
        return self.order[x.squeeze(-1).long()]

    def outputs(self, x: UInt8[Tensor, "N H W 1"], z: Float[Tensor, "N D"]) -> Float[Tensor, "N K H W"]:
        """Give the likelihood's numbers of every pixel given those before it, all at once.

        Args:
            x: pictures.
            z: latents.

        Returns:
            What `Likelihood.params` reads.
        """
        numbers: Tensor = self.pixelcnn(self.codes(x), self(z).permute(0, 2, 3, 1))
        return numbers

    @torch.no_grad()
    def draw(
        self, z: Float[Tensor, "N D"], noise: Float[Tensor, "N H W 1"], likelihood: Likelihood
    ) -> UInt8[Tensor, "N H W 1"]:
        """Draw pictures pixel by pixel.

        Args:
            z: latents.
            noise: uniform in [0, 1), one number a pixel.
            likelihood: that the pixels are drawn from.

        Returns:
            Pictures.
        """
        given = self(z).permute(0, 2, 3, 1)
        height, width = given.shape[1:3]
        x = torch.zeros_like(noise, dtype=torch.uint8)
        above = self._memory(self.pixelcnn.row_memory((height, width)).states, z)
        left = self._memory(self.pixelcnn.place_memory((height, width)).states, z)
        for row in range(height):
            at = torch.full((len(z),), row, device=z.device)
            context, above = self.pixelcnn.row(self.codes(x[:, row - 1]), at, above, given[:, row])
            for column in range(width):
                position = at * width + column
                before = self.codes(x[:, row, column - 1])
                numbers, left, _ = self.pixelcnn.place(before, position, width, context[:, column], left)
                params = likelihood.params(numbers[:, :, None, None])
                x[:, row, column] = likelihood.sample(params, noise[:, row : row + 1, column : column + 1])[:, 0, 0]
        return x

    def _memory(self, shapes: Mapping[str, tuple[int, ...]], like: Tensor) -> Memory:
        """Make empty memory."""
        return {name: like.new_zeros(len(like), *shape) for name, shape in shapes.items()}
