"""The graph of an exact decoder: `decode_exact`."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from artifact.exact_decoder import EXACT_DECODE
from models.exact.decoder import MEAN_LIMIT, ExactDecoder
from training.graphs.spec import GraphSpec


class _Decode(nn.Module):
    """`codes -> mean`."""

    def __init__(self, network: ExactDecoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, *codes: Int[Tensor, "B *grid"]) -> Int[Tensor, "B H W C"]:
        """Decode."""
        mean: Tensor = self.network(*codes)
        return mean.to(torch.int32)


def exact_decoder_graph(network: ExactDecoder, decode: GraphSpec) -> GraphSpec:
    """Describe the graph of an exact decoder.

    Args:
        network: frozen.
        decode: the graph of the decoder that it was made of.

    Returns:
        The graph.
    """
    mean = decode.outputs[0].model_copy(
        update={"dtype": "int32", "minimum": 0, "maximum": MEAN_LIMIT, "unit": "1/16 intensity"}
    )
    return GraphSpec(
        EXACT_DECODE, _Decode(network), decode.inputs, (mean,), decode.downsampling, strides=decode.strides
    )
