"""What a minibatch says of the whole data set."""

from jaxtyping import Float, Float64
from torch import Tensor


def dataset_bound(bounds: Float[Tensor, " M"], examples: int) -> Float64[Tensor, ""]:
    """Estimate the bound of a data set from that of a random part of it: N / M times the sum over the minibatch.

    L(theta, phi; X) is estimated by (N / M) sum_i L(theta, phi; x_i) (Kingma & Welling 2014, eq. 8); the mean over all
    minibatches of the size is the data set's own sum, so the estimate is unbiased.

    Args:
        bounds: of the M examples of a minibatch, nats.
        examples: N, in the whole data set.

    Returns:
        Nats of the whole data set.
    """
    return bounds.double().mean() * examples
