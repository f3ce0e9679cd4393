"""A decoder of sounds sample by sample, p(x given z) = prod p(x_t given x_<t, z) (van den Oord et al. 2017, 4.3)."""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from models.code_priors import Conditions, Memory, MemoryShapes, PlaceStep
from models.sound_likelihoods import MU, MuLawCategorical, mu_law, pcm
from models.wavenet import WaveNet


class WaveNetDecoder(nn.Module):
    """A WaveNet over the mu-law classes of samples, given code vectors that are brought to the samples' rate.

    Its log-probability is that of the 16-bit values, whatever the class stands for counted in, as that of
    `MuLawCategorical`.

    Args:
        embedding_dim: D of a code vector.
        downsampling: samples that one vector stands for.
        features: G, numbers that the vectors say of each sample.
        channels: see `models.wavenet.DilatedLayer`.
        skip_channels: likewise.
        cycles: see `models.wavenet.dilation_cycles`.
        layers: in each cycle.
        hidden: channels between the layers and the logits.
        num_speakers: whose voices it tells apart; 0 for a decoder that takes none.
    """

    def __init__(
        self,
        embedding_dim: int,
        downsampling: int,
        *,
        features: int,
        channels: int,
        skip_channels: int,
        cycles: int,
        layers: int,
        hidden: int,
        num_speakers: int = 0,
    ) -> None:
        super().__init__()
        self.likelihood = MuLawCategorical()
        self.features = features
        self.upsample = nn.Sequential(
            nn.Conv1d(embedding_dim, features, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose1d(features, features, 2 * downsampling, stride=downsampling, padding=downsampling // 2),
        )
        self.wavenet = WaveNet(
            MU + 1,
            (downsampling,),
            channels=channels,
            skip_channels=skip_channels,
            cycles=cycles,
            layers=layers,
            hidden=hidden,
            dropout=0.0,
            conditions={"speaker": num_speakers} if num_speakers else None,
            features=features,
        )

    @property
    def reach(self) -> int:
        """Samples before one that its probability depends on."""
        return self.wavenet.stack.receptive_field

    def forward(self, z: Float[Tensor, "B D t"], *conditions: Int[Tensor, " B"]) -> Float[Tensor, "B G T"]:
        """Give what code vectors say of every sample, whatever the conditions."""
        del conditions
        features: Tensor = self.upsample(z)
        return features

    def given(self, z: Float[Tensor, "B D t"]) -> Float[Tensor, "B T G"]:
        """Give what code vectors say of every sample; run once for a whole sound."""
        return self(z).movedim(1, -1)

    def logits(
        self, x: Float[Tensor, "B T"], z: Float[Tensor, "B D t"], conditions: Conditions | None = None
    ) -> Float[Tensor, "B 256 T"]:
        """Give the logits of the class of every sample given those before it, all at once; see `sample_log_prob`."""
        logits: Tensor = self.wavenet(mu_law(pcm(x)), self.given(z), conditions)
        return logits

    def sample_log_prob(
        self, x: Float[Tensor, "B T"], z: Float[Tensor, "B D t"], conditions: Conditions | None = None
    ) -> Float64[Tensor, "B T"]:
        """Give log p of every sample given those before it, all at once.

        Args:
            x: in [-1, 1].
            z: code vectors, one for every `downsampling` samples.
            conditions: `speaker`, or nothing.

        Returns:
            Nats.
        """
        return self.likelihood.pixel_log_prob(x, self.likelihood.params(self.logits(x, z, conditions)))

    def memory(self) -> MemoryShapes:
        """Give the shapes of what steps keep."""
        return self.wavenet.memory(())

    def step(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B G"],
        conditions: Conditions | None = None,
    ) -> PlaceStep:
        """Take a sample; see `SequencePrior.step`.

        Args:
            code: mu-law class of the sample before; of no matter at position 0.
            position: of the sample, 0 ...
            memory: see `memory`.
            given: what the code vectors say of this sample.
            conditions: `speaker`, or nothing.

        Returns:
            The logits of the sample's class, and what is to be written into the caches.
        """
        return self.wavenet.step(code, position, memory, given, conditions)

    @torch.no_grad()
    def draw(
        self, z: Float[Tensor, "B D t"], noise: Float[Tensor, "B T"], conditions: Conditions | None = None
    ) -> Float[Tensor, "B T"]:
        """Draw a sound step by step.

        Args:
            z: code vectors.
            noise: uniform in [0, 1), one number a sample.
            conditions: `speaker`, or nothing.

        Returns:
            16-bit values, in [-1, 1].
        """
        given = self.given(z)
        shapes = self.memory().caches
        caches = {name: given.new_zeros(len(z), *shape) for name, shape in shapes.items()}
        code = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        x = torch.zeros_like(noise)
        for place in range(noise.shape[1]):
            position = torch.full_like(code, place)
            found = self.step(code, position, caches, given[:, place], conditions)
            for name, entry in found.entries.items():
                caches[name][:, place % caches[name].shape[1]] = entry
            params = self.likelihood.params(found.logits.unsqueeze(-1))
            x[:, place] = self.likelihood.sample(params, noise[:, place : place + 1])[:, 0]
            code = mu_law(pcm(x[:, place]))
        return x
