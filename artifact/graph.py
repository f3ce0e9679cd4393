"""What a manifest says of a graph: its file, and the tensors that it takes and gives."""

from typing import Annotated, Literal

from pydantic import Field

from artifact.errors import SignatureError
from artifact.part import Part, Sha256

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
DType = Literal["uint8", "int32", "int64", "float32", "float64"]


class Tensor(Part):
    """One input or output of a graph.

    Attributes:
        name: the tensor's name in the graph.
        dtype: its element type.
        shape: one entry an axis: a number where the size is fixed, else the axis' symbol: `B`, `S`, of an image of any
            size `H` and `W`, and of its grid of codes `h` and `w`; of a sound of any length `T`, and of its codes `t`.
        minimum: the smallest value that the graph is meant for, in `unit`; None where there is none.
        maximum: the largest, likewise.
        values: the only values that may occur, where they are few (a Bernoulli likelihood takes 0 and 255).
        unit: what a value means: `intensity` (0..255), `nats`, `standard_normal`, `logit`, ...
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[int, ...] | None = None
    unit: str


class Graph(Part):
    """One ONNX file with its signature."""

    file: FileName
    sha256: Sha256
    opset: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def check(self, graph: str, inputs: dict[str, DType], outputs: dict[str, DType]) -> None:
        """Compare this declaration with the names and element types that the runtime found in the file.

        Args:
            graph: the graph's role, for the message.
            inputs: element type of each input that the file really has.
            outputs: likewise for the outputs.

        Raises:
            SignatureError: a tensor is missing, superfluous or of another type.
        """
        for role, declared, found in (
            ("inputs", self.inputs, inputs),
            ("outputs", self.outputs, outputs),
        ):
            expected = {tensor.name: tensor.dtype for tensor in declared}
            if expected != found:
                raise SignatureError(
                    f"graph {graph!r} ({self.file}): the manifest declares {role} {expected}, "
                    f"the file has {found}; export the model again"
                )
