"""Posteriors q(z given x): from the encoder's output to a distribution over z."""

from models.posteriors.base import Posterior as Posterior
from models.posteriors.base import Quantity as Quantity
from models.posteriors.diagonal import DiagonalGaussianPosterior as DiagonalGaussianPosterior
from models.posteriors.fixed_variance import FixedVariancePosterior as FixedVariancePosterior
from models.posteriors.flow import FlowPosterior as FlowPosterior
from models.posteriors.full_covariance import FullCovariancePosterior as FullCovariancePosterior
