"""Vector quantizers: each vector becomes the nearest of K code vectors."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.kmeans import kmeans, nearest, pick
from models.quantizers.base import Quantized, Quantizer, full_precision
from models.quantizers.gradients import Gradient, replace
from models.together import agree, gathered

Initialisation = Literal["random", "kmeans"]


class VectorQuantizer(Quantizer):
    """A codebook of K vectors of length D (van den Oord et al. 2017, eqs. 1 to 3); it changes in training alone.

    Args:
        num_embeddings: K.
        embedding_dim: D.
        commitment_cost: beta, weight of the pull of the encoder's vectors towards their codes.
        unit_length: whether vectors and codes lie on the unit sphere (Yu et al. 2022, section 3.2).
        initialisation: `random`, uniform with variance 1 / D, or `kmeans` over the first training batch.
        decay: of the moving averages of what each code stands for.
        revive_below: a code whose moving average of uses falls below this share of N / K, the mean use, is put in
            place of a random vector of the batch; 0 for never.
        gradient: how it gets from the code vectors to z.
    """

    embedding: Tensor
    uses: Tensor
    started: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        commitment_cost: float,
        unit_length: bool,
        initialisation: Initialisation,
        decay: float,
        revive_below: float,
        gradient: Gradient,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.commitment_cost, self.unit_length = commitment_cost, unit_length
        self.decay, self.revive_below, self.gradient = decay, revive_below, gradient
        limit = math.sqrt(3.0 / embedding_dim)
        self._declare(torch.empty(num_embeddings, embedding_dim).uniform_(-limit, limit))
        self.register_buffer("uses", torch.ones(num_embeddings))
        self.register_buffer("started", torch.tensor(initialisation == "random"))

    @abstractmethod
    def _declare(self, embedding: Float[Tensor, "K D"]) -> None:
        """Keep the code vectors, as a parameter or as a buffer."""

    @abstractmethod
    def _learn(self, z: Float[Tensor, "N D"], codes: Int[Tensor, " N"]) -> None:
        """Move the code vectors after a training batch."""

    @abstractmethod
    def _place(self, chosen: Tensor, vectors: Float[Tensor, "n D"]) -> None:
        """Put the chosen codes elsewhere."""

    @abstractmethod
    def _codebook_loss(
        self, z: Float[Tensor, "B *grid D"], codes: Int[Tensor, "B *grid"]
    ) -> Float[Tensor, " B"] | float:
        """Give the loss by which the code vectors learn, where they learn by one."""

    @property
    def vectors(self) -> Float[Tensor, "K D"]:
        """The codebook."""
        return self._space(self.embedding)

    def codes(self, z: Float[Tensor, "*batch D"]) -> Int[Tensor, "*batch"]:
        """Give the index of the nearest code vector (van den Oord et al. 2017, eq. 1)."""
        with full_precision(z.device.type):
            return nearest(self._space(z.float()), self.vectors)

    def embed(self, codes: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch D"]:
        """Give the code vectors of indices."""
        return self.vectors[codes.long()]

    def margins(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give the margins over squared distances; see `Quantizer.margins`."""
        z = self._space(z.double())
        vectors = self.vectors.double()
        distances = z.square().sum(-1, keepdim=True) - 2.0 * (z @ vectors.T) + vectors.square().sum(-1)
        first, second = distances.topk(2, dim=-1, largest=False).values.clamp(min=0.0).unbind(-1)
        return ((second - first) / second.clamp(min=1e-30)).to(torch.float32)

    def forward(self, z: Float[Tensor, "B *grid D"]) -> Quantized:
        """Quantize; in training, learn from the batch; see `Quantizer.forward`."""
        with full_precision(z.device.type):
            z = self._space(z.float())
            flat = z.detach().reshape(-1, self.embedding_dim)
            flat = gathered(flat) if self.training else flat
            # A batch that is not finite would stay in the averages for good; the fit skips its step as well.
            learning = self.training and bool(torch.isfinite(flat).all())
            if learning and not self.started:
                self._start(flat)
            codes = self.codes(z)
            embedded = self.embed(codes).detach()
            change = (z - embedded).square().flatten(1).mean(1)
            penalty = self.commitment_cost * change + self._codebook_loss(z.detach(), codes)
            if learning:
                with torch.no_grad():
                    used = gathered(codes.flatten())
                    self._count(used)
                    self._learn(flat, used)
                    self._revive(flat)
            return Quantized(replace(z, embedded, self.gradient), codes, penalty)

    def _space(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Bring vectors to the sphere where codes live on it."""
        return normalize(z, dim=-1) if self.unit_length else z

    @torch.no_grad()
    def _start(self, z: Float[Tensor, "N D"]) -> None:
        """Put every code in the middle of its own vectors, as much in use as any other."""
        self.uses.fill_(len(z) / self.num_embeddings)
        self._place(torch.ones_like(self.uses, dtype=torch.bool), kmeans(z, self.num_embeddings))
        self.started.fill_(True)
        agree(self.state_dict().values())

    def _count(self, codes: Int[Tensor, " N"]) -> None:
        """Follow how often each code is used in a batch."""
        counts = torch.bincount(codes, minlength=self.num_embeddings).to(self.uses.dtype)
        self.uses.lerp_(counts, 1.0 - self.decay)

    def _revive(self, z: Float[Tensor, "N D"]) -> None:
        """Move codes that have fallen out of use to where data are."""
        mean_use = len(z) / self.num_embeddings
        dead = self.uses < self.revive_below * mean_use
        if dead.any():
            self.uses[dead] = mean_use
            self._place(dead, pick(z, int(dead.sum())))
            agree(self.state_dict().values())


class EMAVectorQuantizer(VectorQuantizer):
    """Code vectors are moving averages of the vectors that they stand for (van den Oord et al. 2017, appendix A.1)."""

    sums: Tensor
    epsilon = 1e-5

    def _declare(self, embedding: Float[Tensor, "K D"]) -> None:
        self.register_buffer("embedding", embedding)
        self.register_buffer("sums", embedding.clone())

    def _codebook_loss(self, z: Float[Tensor, "B *grid D"], codes: Int[Tensor, "B *grid"]) -> float:
        del z, codes  # the averages learn without a loss
        return 0.0

    def _learn(self, z: Float[Tensor, "N D"], codes: Int[Tensor, " N"]) -> None:
        """N_k and m_k decay towards the batch's counts and sums, and e_k = m_k / N_k (eqs. 6 to 8).

        N_k is smoothed by epsilon, so that a code that nothing uses keeps a finite place.
        """
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, codes, z), 1.0 - self.decay)
        total = self.uses.sum()
        smoothed = (self.uses + self.epsilon) / (total + self.num_embeddings * self.epsilon) * total
        self.embedding.copy_(self._space(self.sums / smoothed[:, None]))

    def _place(self, chosen: Tensor, vectors: Float[Tensor, "n D"]) -> None:
        self.embedding[chosen] = vectors
        self.sums[chosen] = vectors * self.uses[chosen, None]


class LearnedVectorQuantizer(VectorQuantizer):
    """Code vectors follow the gradient of |sg(z) - e|^2 (van den Oord et al. 2017, eq. 3)."""

    def _declare(self, embedding: Float[Tensor, "K D"]) -> None:
        self.embedding = nn.Parameter(embedding)

    def _codebook_loss(self, z: Float[Tensor, "B *grid D"], codes: Int[Tensor, "B *grid"]) -> Float[Tensor, " B"]:
        return (z - self.embed(codes)).square().flatten(1).mean(1)

    def _learn(self, z: Float[Tensor, "N D"], codes: Int[Tensor, " N"]) -> None:
        del z, codes  # the optimiser moves them

    def _place(self, chosen: Tensor, vectors: Float[Tensor, "n D"]) -> None:
        self.embedding.data[chosen] = vectors
