"""The exact counterpart of a fitted prior."""

from models.code_priors import CodePrior
from models.exact.pixelcnn import ExactPixelCNN
from models.exact.prior import ExactPrior
from models.exact.wavenet import ExactWaveNet
from models.pixelcnn import GatedPixelCNN
from models.wavenet import WaveNet


class NotExactError(ValueError):
    """A prior has no exact counterpart."""


def exact_prior(prior: CodePrior) -> ExactPrior:
    """Copy a fitted prior into exact layers, which are to be calibrated on data.

    Args:
        prior: gated PixelCNN or WaveNet.

    Returns:
        Its exact counterpart with floating-point shadow weights.

    Raises:
        NotExactError: it is of another kind, such as one with attention, whose softmax has no exact form here.
    """
    if type(prior) is GatedPixelCNN:
        return ExactPixelCNN(prior)
    if type(prior) is WaveNet:
        return ExactWaveNet(prior)
    raise NotExactError(
        f"{type(prior).__name__} has no exact counterpart, since attention has none; expected a prior of kind "
        "'pixelcnn' or 'wavenet'"
    )
