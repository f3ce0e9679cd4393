"""The ONNX graphs of a model: what each takes and gives, and the torch module behind it."""

from artifact import manifest as schema
from models.bottleneck import DiscreteBottleneck
from models.continuous import ContinuousBottleneck
from models.model import LatentVariableModel
from training.errors import ExportError
from training.graphs import continuous, discrete
from training.graphs.spec import GraphSpec


def graphs(model: LatentVariableModel, geometry: schema.Geometry) -> tuple[GraphSpec, ...]:
    """List the graphs that a model has, without those of a prior over its codes.

    Args:
        model: in evaluation mode.
        geometry: of its data.

    Returns:
        The graphs.

    Raises:
        ExportError: there are none for models of this kind.
    """
    bottleneck = model.bottleneck
    if isinstance(bottleneck, ContinuousBottleneck) and isinstance(geometry, schema.ImageGeometry):
        return continuous.graphs(model, bottleneck, geometry)
    if isinstance(bottleneck, DiscreteBottleneck):
        return discrete.graphs(model, bottleneck, geometry)
    raise ExportError(f"there are no graphs for a {type(bottleneck).__name__}")
