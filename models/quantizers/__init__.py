"""Quantizers: each vector becomes one of K code vectors, or a sum of several."""

from models.quantizers.base import Quantized as Quantized
from models.quantizers.base import Quantizer as Quantizer
from models.quantizers.finite_scalar import FiniteScalarQuantizer as FiniteScalarQuantizer
from models.quantizers.gradients import Gradient as Gradient
from models.quantizers.residual import ResidualQuantizer as ResidualQuantizer
from models.quantizers.vector import EMAVectorQuantizer as EMAVectorQuantizer
from models.quantizers.vector import Initialisation as Initialisation
from models.quantizers.vector import LearnedVectorQuantizer as LearnedVectorQuantizer
from models.quantizers.vector import VectorQuantizer as VectorQuantizer
