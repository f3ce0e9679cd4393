"""Priors p(z) over real vectors."""

from models.priors.ar1 import AR1 as AR1
from models.priors.base import Prior as Prior
from models.priors.flow import FlowPrior as FlowPrior
from models.priors.standard_normal import StandardNormal as StandardNormal
from models.priors.vamp import MixturePrior as MixturePrior
from models.priors.vamp import VampPrior as VampPrior
