"""Encoder and decoder of sounds: strided convolutions to vectors in time, and back (van den Oord et al. 2017, 4.3)."""

from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor, nn

from models.networks import Network, SoundShape

_SLOPE = 0.1
_DILATIONS = (1, 3, 9)


class DilatedResidual(nn.Module):
    """x + conv1x1(act(conv3(act(x)))), the inner convolution dilated.

    Args:
        channels: of input and output.
        dilation: samples between the taps of the inner convolution.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        last = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            nn.LeakyReLU(_SLOPE),
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation),
            nn.LeakyReLU(_SLOPE),
            last,
        )

    def forward(self, x: Float[Tensor, "B C t"]) -> Float[Tensor, "B C t"]:
        """Add the block's change to its input."""
        change: Tensor = self.layers(x)
        return x + change


class SoundDecoder(nn.Module):
    """Transposed convolutions with dilated residual blocks between them; a speaker shifts every stage.

    Args:
        embedding_dim: D of a vector.
        channels: of each stage, from the codes outwards, each with twice the samples of the one before; the last
            transposed convolution makes up for the rest.
        downsampling: samples that one vector stands for.
        blocks: residual blocks of a stage.
        outputs: numbers that the likelihood wants for each sample.
        num_speakers: whose voices the decoder tells apart; 0 for a decoder that takes none.
    """

    def __init__(
        self,
        embedding_dim: int,
        channels: tuple[int, ...],
        downsampling: int,
        blocks: int,
        outputs: int,
        num_speakers: int,
    ) -> None:
        super().__init__()
        self.begin = nn.Conv1d(embedding_dim, channels[0], 7, padding=3)
        self.stages = nn.ModuleList(
            nn.Sequential(*(DilatedResidual(width, _dilation(index)) for index in range(blocks)), nn.LeakyReLU(_SLOPE))
            for width in channels
        )
        self.doublings = nn.ModuleList(
            nn.ConvTranspose1d(before, after, 4, stride=2, padding=1) for before, after in pairwise(channels)
        )
        rest = downsampling >> (len(channels) - 1)
        self.end = nn.ConvTranspose1d(channels[-1], outputs, 4 * rest, stride=rest, padding=3 * rest // 2)
        self.voices = nn.ModuleList(_voices(num_speakers, width) for width in channels if num_speakers)

    def forward(self, z: Float[Tensor, "B D t"], speaker: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B K T"]:
        """Give what the likelihood reads.

        Args:
            z: code vectors.
            speaker: index of each example's voice, `num_speakers` for none; only where there are voices.

        Returns:
            K numbers for every sample.
        """
        h = self.begin(z)
        for index, stage in enumerate(self.stages):
            if index:
                h = self.doublings[index - 1](h)
            if speaker is not None and self.voices:
                h = h + self.voices[index](speaker).unsqueeze(-1)
            h = stage(h)
        found: Tensor = self.end(h)
        return found


def _voices(num_speakers: int, width: int) -> nn.Embedding:
    """Make a shift for each speaker and for none, all zero at first."""
    voices = nn.Embedding(num_speakers + 1, width)
    nn.init.zeros_(voices.weight)
    return voices


def _dilation(index: int) -> int:
    """Widen the reach of successive blocks threefold, in rounds."""
    return _DILATIONS[index % len(_DILATIONS)]


def sound(
    data: SoundShape,
    outputs: int,
    *,
    encoder_channels: tuple[int, ...],
    decoder_channels: tuple[int, ...],
    encoder_blocks: int,
    decoder_blocks: int,
    embedding_dim: int,
    num_speakers: int,
) -> Network:
    """Build strided convolutions (stride 2, window 4) and residual blocks, and transposed convolutions back.

    Args:
        data: samples of a sound, a multiple of 2 to the number of the encoder's stages.
        outputs: numbers that the likelihood wants for each sample.
        encoder_channels: of each strided convolution, from the sound inwards.
        decoder_channels: of each stage, from the codes outwards; at most as many as the encoder has.
        encoder_blocks: residual blocks at the codes' rate.
        decoder_blocks: residual blocks of each stage.
        embedding_dim: D of a vector.
        num_speakers: whose voices the decoder tells apart; 0 for none.

    Returns:
        Encoder `[B, 1, T] -> [B, D, t]` and decoder back.

    Raises:
        ValueError: the stages do not fit the sound or each other.
    """
    if len(decoder_channels) > len(encoder_channels):
        raise ValueError(
            f"decoder_channels has {len(decoder_channels)} stages, more than the {len(encoder_channels)} of "
            "encoder_channels; give at most as many"
        )
    encoder = sound_encoder(data, encoder_channels, encoder_blocks, embedding_dim)
    downsampling = 2 ** len(encoder_channels)
    decoder = SoundDecoder(embedding_dim, decoder_channels, downsampling, decoder_blocks, outputs, num_speakers)
    return Network(encoder, decoder.apply(_initialise))


def sound_encoder(data: SoundShape, channels: tuple[int, ...], blocks: int, embedding_dim: int) -> nn.Module:
    """Build strided convolutions (stride 2, window 4) and residual blocks behind them.

    Args:
        data: samples of a sound, a multiple of 2 to the number of stages.
        channels: of each strided convolution, from the sound inwards.
        blocks: residual blocks at the codes' rate.
        embedding_dim: D of a vector.

    Returns:
        Encoder `[B, 1, T] -> [B, D, t]`.

    Raises:
        ValueError: the stages do not fit the sound.
    """
    downsampling = 2 ** len(channels)
    if data.length % downsampling:
        raise ValueError(
            f"sounds have {data.length} samples, but {len(channels)} stages need a multiple of {downsampling}; "
            "use another length or fewer stages"
        )
    layers: list[nn.Module] = []
    for before, after in pairwise((1, *channels)):
        layers += [nn.Conv1d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
    width = channels[-1]
    layers += [nn.Conv1d(width, width, 3, padding=1)]
    layers += [DilatedResidual(width, _dilation(index)) for index in range(blocks)]
    layers += [nn.LeakyReLU(_SLOPE), nn.Conv1d(width, embedding_dim, 1)]
    return nn.Sequential(*layers).apply(_initialise)


def _initialise(module: nn.Module) -> None:
    """Let every convolution keep the size of what it gets (He et al. 2015): codes that hardly differ would collapse."""
    if isinstance(module, nn.Conv1d) and module.weight.any():
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
    if isinstance(module, nn.ConvTranspose1d):
        taps = module.weight[0, 0].numel() / module.stride[0]
        nn.init.normal_(module.weight, std=(module.in_channels * taps) ** -0.5)
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d) and module.bias is not None:
        nn.init.zeros_(module.bias)
