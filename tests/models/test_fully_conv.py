"""Networks of several strides: widths, sizes, and that they are the same function at every place."""

import pytest
import torch

from models.networks.fully_conv import Widths, decoder, encoder


@pytest.mark.parametrize(
    ("downsampling", "expected"),
    [(2, [64]), (4, [32, 64]), (8, [16, 32, 64]), (16, [16, 16, 32, 64]), (32, [16, 16, 16, 32, 64])],
)
def test_channels_grow_towards_the_grid(downsampling: int, expected: list[int]) -> None:
    widths = Widths(hidden=64, residual_hidden=8, residual_blocks=1)
    assert widths.stages(downsampling) == expected
    x = torch.zeros(1, 3, 2 * downsampling, 3 * downsampling)
    z = encoder(3, 5, downsampling, widths)(x)
    assert z.shape == (1, 5, 2, 3)
    assert decoder(5, 3, downsampling, widths)(z).shape == x.shape


@torch.no_grad()
@pytest.mark.parametrize("downsampling", [4, 8])
def test_places_far_from_the_border_do_not_know_where_they_are(downsampling: int) -> None:
    """Neither normalisation over the grid nor attention: moving the input by one place moves the output by one."""
    torch.manual_seed(0)
    widths = Widths(hidden=8, residual_hidden=4, residual_blocks=1)
    network = encoder(3, 2, downsampling, widths)
    x = torch.randn(1, 3, 16 * downsampling, 16 * downsampling)
    before, after = network(x), network(x.roll(downsampling, dims=-1))
    torch.testing.assert_close(after[..., 6:10, 7:11], before[..., 6:10, 6:10])
