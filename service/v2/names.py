"""What the protocol calls things: a model is one graph of one of ours, `photo-vq.encode`; element types have names."""

from dataclasses import dataclass

from artifact.manifest import DType, Graph, Tensor
from service.engine.engine import Engine
from service.engine.opening import READ, ServedModel
from service.errors import UnknownModelError

PREFIX = "/v2"

DATATYPES: dict[DType, str] = {
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
}
"""The protocol's names of element types."""


@dataclass(frozen=True)
class Target:
    """One graph of a served model.

    Attributes:
        model: that it belongs to.
        role: of the graph.
    """

    model: ServedModel
    role: str

    @property
    def name(self) -> str:
        """The protocol's name of it."""
        return f"{self.model.manifest.name}.{self.role}"

    @property
    def version(self) -> str:
        """The protocol's version of it."""
        return str(self.model.version)

    @property
    def graph(self) -> Graph:
        """What the manifest says of it."""
        return self.model.manifest.graphs[self.role]

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors that a run gives."""
        read = READ.get(self.role)
        return [tensor for tensor in self.graph.outputs if read is None or tensor.name in read]


def find(engine: Engine, name: str, version: str | None = None) -> Target:
    """Find a graph by the protocol's name.

    Args:
        engine: that serves it.
        name: such as `photo-vq.encode`.
        version: None for the latest that is served.

    Returns:
        The graph.

    Raises:
        UnknownModelError: there is none.
    """
    return find_all(engine, name, version)[-1]


def find_all(engine: Engine, name: str, version: str | None = None) -> list[Target]:
    """Find the served versions of a graph, the latest last; see `find`."""
    ours, _, role = name.partition(".")
    models = engine.named(ours if version is None else f"{ours}@{version}")
    found = [Target(model, role) for model in models if role in model.manifest.graphs]
    if not found:
        known = ", ".join(f"{ours}.{role}" for role in models[-1].manifest.graphs)
        raise UnknownModelError(f"no model {name[:80]!r} is served: a model is one graph here, such as {known}")
    return found


def shape(tensor: Tensor) -> list[int]:
    """Give the protocol's shape of a tensor, -1 for an axis of any size."""
    return [-1 if isinstance(axis, str) else axis for axis in tensor.shape]
