"""What an export measured of its graphs: how far they are from the model."""

from artifact.part import Part


class CodesParity(Part):
    """How the codes of the exported graphs compared with the model's.

    Attributes:
        compared: codes.
        near_ties: of these, codes whose two best distances lie within 1e-4 of each other, relatively.
        differing: codes that differ; in full precision all of them are near-ties.
    """

    compared: int
    near_ties: int
    differing: int


class PriorParity(Part):
    """How the exported prior compared with the model's, and its incremental graphs with the parallel one.

    Attributes:
        examples: grids of held-out codes compared.
        logits_error: largest error of the parallel graph, as in `Parity`.
        incremental_error: likewise, of the incremental graphs against the parallel one.
        drawn: codes drawn incrementally.
        differing: of these, codes that the parallel pass would draw otherwise from the same noise; in full precision
            all of them are near-ties.
    """

    examples: int
    logits_error: float
    incremental_error: float
    drawn: int
    differing: int


class Parity(Part):
    """How far the exported graphs were from the model that they were exported from.

    A variant is measured twice, and the worse counts: by ONNX Runtime on the CPU, which has no kernels for the smaller
    type and leaves most of its rounding out, and by torch with every layer's output rounded, as on a GPU.

    Attributes:
        examples: held-out examples compared.
        tensor_error: largest |onnx - torch| / (1 + |torch|) over all tensors of real numbers but the bounds; of a
            variant |onnx - torch| / max(1, the largest |torch| of the tensor), since a number near 0 has the rounding
            of what it is the difference of.
        bound_error_nats_per_dim: largest difference of a bound, in nats per data dimension; as a share of a bound of
            more than 1 nat a dimension.
        codes: of a model of integer codes.
        prior: of a model with a learned prior over codes.
    """

    examples: int
    tensor_error: float
    bound_error_nats_per_dim: float
    codes: CodesParity | None = None
    prior: PriorParity | None = None
