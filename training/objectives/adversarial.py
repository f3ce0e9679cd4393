"""The objective of a VAE-GAN: likeness in the eyes of a discriminator, which learns to tell pictures apart."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from models.discriminator import Discriminator
from models.likelihoods import Gaussian
from models.model import LatentVariableModel
from models.networks import ImageShape, data_shape
from training.errors import RecipeError
from training.objectives.base import DataFacts, ModelObjective, ModelObjectiveConfig, Step, vector_bottleneck


class DiscriminatorConfig(BaseModel):
    """The `[objective.discriminator]` table: channels of its stages, each of which halves the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...] = Field(default=(32, 64, 128), min_length=1)


class AdversarialConfig(ModelObjectiveConfig):
    """The `[objective]` table of kind `adversarial`.

    Attributes:
        rate_weight: of the rate beside the likeness, in the encoder's loss.
        likeness_weight: gamma, of the likeness beside the discriminator's verdict, in the decoder's loss.
        pixel_weight: of log p(x given z) in the decoder's loss, none in the paper: a little of it keeps brightness and
            contrast, which a young discriminator cares little for.
        pixel_steps: at the beginning, in which the model is fitted as a plain VAE, and the discriminator not at all: a
            decoder that does not know pictures yet learns patterns that deceive, and no more.
        gradient_penalty: gamma of R1 = gamma / 2 E|grad D(x)|^2 over data (Mescheder et al. 2018, eq. 9) in the
            discriminator's loss, of its logit by network units: it keeps a discriminator that is sure of itself from
            leading the decoder into patterns.
        discriminator: what the pictures are judged by.
    """

    kind: Literal["adversarial"]
    rate_weight: float = Field(default=1.0, ge=0)
    likeness_weight: float = Field(default=0.1, gt=0)
    pixel_weight: float = Field(default=0.0, ge=0)
    pixel_steps: int = Field(default=0, ge=0)
    gradient_penalty: float = Field(default=0.0, ge=0)
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    def build(self, model: LatentVariableModel, facts: DataFacts) -> "Adversarial":
        """Make the objective; see `ModelObjectiveConfig.build`."""
        if not isinstance(model.likelihood, Gaussian) or model.likelihood.outputs_per_channel != 1:
            raise RecipeError(
                "objective.kind 'adversarial' is for decoders that give pictures and nothing else; choose "
                "model.family = 'vae-gan'"
            )
        try:
            discriminator = Discriminator(image_shape(facts), self.discriminator.channels)
        except ValueError as error:
            raise RecipeError(f"objective.discriminator does not fit the data: {error}") from error
        return Adversarial(model, facts, self, discriminator)


class Adversarial(ModelObjective):
    """Autoencoding beyond pixels (Larsen et al. 2016, eqs. 5 to 8 and algorithm 1), in three losses from one pass.

    - encoder: the rate, and the likeness -log N(D_l(x); D_l(x'), I) of the reconstruction x' to x in the features of
      the discriminator, without its constant;
    - decoder: gamma times the likeness, and -log D of reconstructions and of draws from the prior (which has the fixed
      points of log(1 - D), and gradients where the discriminator is sure: Goodfellow et al. 2014, section 3);
    - discriminator: -log D(x) - log(1 - D) of these, and where it is wanted a penalty of its slope at x.

    What the likelihood learns of pixels, such as their variance, it learns from the reconstructions as they are.

    Args:
        model: what is fitted.
        facts: of the training split.
        config: the weights of the losses.
        discriminator: of pictures of the model's size.
    """

    keeps = "last"
    """Its bound falls while its pictures get sharper, so that the best bound would be of a model hardly fitted."""

    steps_done: Tensor

    def __init__(
        self, model: LatentVariableModel, facts: DataFacts, config: AdversarialConfig, discriminator: Discriminator
    ) -> None:
        super().__init__(model, facts, samples=1, unconditional=1.0)
        self.config, self.discriminator = config, discriminator
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))
        self.sample = vector_bottleneck(model).sample

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Give encoder, decoder and discriminator an optimiser each."""
        decoder = [*self.model.decoder.parameters(), *self.model.likelihood.parameters()]
        its = {id(weight) for weight in decoder}
        return {
            "encoder": [weight for weight in self.model.parameters() if id(weight) not in its],
            "decoder": decoder,
            "discriminator": list(self.discriminator.parameters()),
        }

    def steps(self, *batch: Shaped[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the steps of a batch of pictures, three after the beginning; see `Objective.steps`."""
        young = int(self.steps_done) < self.config.pixel_steps
        self.steps_done += 1
        yield from self._pixel_steps(*batch) if young else self._adversarial_steps(*batch)

    def _pixel_steps(self, x: Shaped[Tensor, "B H W C"]) -> Iterator[Step]:
        """Give the steps of a plain VAE."""
        bound = self.model.bound(x, self.draw_noise(x))
        elbo = bound.elbo.mean()
        yield Step("encoder", -elbo, elbo.detach(), self.bound_figures(bound), shares_graph=True)
        yield Step("decoder", -elbo, elbo.detach(), {})

    def _adversarial_steps(self, x: Shaped[Tensor, "B H W C"]) -> Iterator[Step]:
        """Give the steps of a VAE-GAN."""
        likelihood, config = self.model.likelihood, self.config
        (level,) = self.model.bottleneck(self.model.hidden(x), self.draw_noise(x))
        prior_noise = torch.randn(len(x), vector_bottleneck(self.model).prior_noise_dimensions, device=x.device)
        drawn = self.sample(prior_noise, torch.ones(len(x), device=x.device))
        h = self.model.decoder(torch.cat([level.z[:, 0], drawn]))
        # Not the mean, which is cut to the range of pixels and has no gradient at its ends.
        pictures = likelihood.params(h)["location"].permute(0, 3, 1, 2)
        features, logits = self.discriminator(torch.cat([likelihood.network_input(x), pictures]))

        of_data, of_reconstructions, _ = features.chunk(3)
        likeness = -0.5 * (of_data - of_reconstructions).square().flatten(1).sum(1).mean()
        rate = (level.log_q - level.log_p).mean() if level.kl is None else level.kl.sum(1).mean()
        of_x = h[: len(x)]
        log_p = likelihood.log_prob(x, likelihood.params(of_x.detach())).mean()
        anchored = likelihood.log_prob(x, likelihood.params(of_x)).mean() if config.pixel_weight else 0.0
        real, imitated = logits[: len(x)], logits[len(x) :]
        deceit = softplus(-imitated).mean()
        detection = softplus(-real).mean() + softplus(imitated).mean()

        bound = (log_p - rate).detach()
        figures = {
            "reconstruction_nats": log_p.detach(),
            "rate_nats": rate.detach(),
            "likeness_nats": likeness.detach(),
            "believed_real": real.detach().sigmoid().mean(),
            "believed_imitated": imitated.detach().sigmoid().mean(),
        }
        yield Step("encoder", config.rate_weight * rate - likeness, bound, figures, shares_graph=True)
        imitation = deceit - config.likeness_weight * likeness - config.pixel_weight * anchored
        yield Step("decoder", imitation - log_p, bound, {}, shares_graph=True)
        yield Step("discriminator", detection + self._penalty(x), bound, {})

    def _penalty(self, x: Shaped[Tensor, "B H W C"]) -> Tensor | float:
        """Give R1, through which the discriminator's weights have a gradient."""
        if not self.config.gradient_penalty:
            return 0.0
        pictures = self.model.likelihood.network_input(x).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(pictures).logits.sum(), pictures, create_graph=True)
        return 0.5 * self.config.gradient_penalty * slope.float().square().flatten(1).sum(1).mean()


def image_shape(facts: DataFacts) -> ImageShape:
    """Give the shape of the pictures of a training split.

    Raises:
        RecipeError: the data are sounds.
    """
    shape = data_shape(facts.shape)
    if not isinstance(shape, ImageShape):
        raise RecipeError("objective.kind 'adversarial' judges pictures, and these data are sounds; choose 'sgvb'")
    return shape
