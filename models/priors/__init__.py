"""Priors p(z) over real vectors."""

from models.priors.base import Prior as Prior
from models.priors.standard_normal import StandardNormal as StandardNormal
