"""Likelihoods p(x given z): each owns the way from data to network and back, and gives true log-probabilities."""

from models.likelihoods.base import Likelihood as Likelihood
from models.likelihoods.base import Params as Params
from models.likelihoods.bernoulli import Bernoulli as Bernoulli
from models.likelihoods.categorical import Categorical as Categorical
from models.likelihoods.gaussian import DiscretizedGaussian as DiscretizedGaussian
from models.likelihoods.gaussian import Gaussian as Gaussian
from models.likelihoods.gaussian import GreyLevelGaussian as GreyLevelGaussian
from models.likelihoods.gaussian import Variance as Variance
from models.likelihoods.logistic_mixture import LogisticMixture as LogisticMixture
