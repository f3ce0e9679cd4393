"""LitServe: `python -m bench.serving.peers.litserve GRAPH OUTPUT THREADS PORT`."""

import sys
from typing import Annotated, Any

import numpy as np
from fastapi import Body, Response
from litserve import LitAPI, LitServer
from numpy.typing import NDArray

from bench.serving.peers.graph import MAX_BATCH, WAIT_S, Graph, hand_down, picture


class Encoder(LitAPI):
    """The graph in a process of its own."""

    def setup(self, device: str) -> None:
        """Open the graph."""
        del device
        self._graph = Graph()

    def decode_request(self, request: Annotated[bytes, Body()]) -> NDArray[np.uint8]:
        """Read a body."""
        return picture(request)

    def predict(self, x: NDArray[np.uint8]) -> NDArray[Any]:
        """Run what was gathered."""
        return self._graph.run(x)

    def encode_response(self, output: NDArray[Any]) -> Response:
        """Write an answer."""
        return Response(output.tobytes())


if __name__ == "__main__":
    hand_down(sys.argv[1:])
    api = Encoder(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S)
    server = LitServer(api, accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[4]), log_level="error", generate_client_file=False)
