"""Fully connected encoder and decoder, as in the tables of Kingma & Welling 2014 and Burda et al. 2016."""

from itertools import pairwise

from torch import nn

from models.networks import ImageShape, Network


def mlp(
    data: ImageShape, outputs_per_channel: int, *, hidden: tuple[int, ...], latent: int, posterior_outputs: int
) -> Network:
    """Build layers of tanh units, the decoder's in reverse order of the encoder's.

    Args:
        data: shape of an image.
        outputs_per_channel: numbers that the likelihood wants for each channel of a pixel.
        hidden: units of each hidden layer, from the image inwards.
        latent: D of z.
        posterior_outputs: K, numbers that the posterior wants.

    Returns:
        Encoder and decoder.
    """
    output = data._replace(channels=data.channels * outputs_per_channel)
    encoder = nn.Sequential(nn.Flatten(), *_layers(data.size, *hidden), nn.Linear(hidden[-1], posterior_outputs))
    decoder = nn.Sequential(
        *_layers(latent, *reversed(hidden)), nn.Linear(hidden[0], output.size), nn.Unflatten(1, tuple(output))
    )
    return Network(encoder, decoder)


def _layers(*widths: int) -> list[nn.Module]:
    """Chain linear layers with tanh."""
    return [module for wide, narrow in pairwise(widths) for module in (nn.Linear(wide, narrow), nn.Tanh())]
