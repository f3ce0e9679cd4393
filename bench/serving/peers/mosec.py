"""mosec: `python -m bench.serving.peers.mosec GRAPH OUTPUT THREADS PORT WAIT_MS`."""

import sys

import numpy as np
from mosec import Server, Worker
from numpy.typing import NDArray

from bench.serving.peers.graph import MAX_BATCH, Graph, hand_down, picture


class Encoder(Worker):
    """The graph in a process of its own."""

    def __init__(self) -> None:
        self._graph = Graph()

    def deserialize(self, data: bytes) -> NDArray[np.uint8]:
        """Read a body."""
        return picture(data)

    def forward(self, data: list[NDArray[np.uint8]]) -> list[bytes]:
        """Run what was gathered."""
        return [row.tobytes() for row in self._graph.run(np.stack(data))]

    def serialize(self, data: bytes) -> bytes:
        """Write an answer, which is bytes already."""
        return data


if __name__ == "__main__":
    given = sys.argv[1:]
    hand_down(given)
    sys.argv[1:] = ["--port", given[3], "--address", "127.0.0.1", "--log-level", "error"]
    server = Server()
    server.append_worker(Encoder, max_batch_size=MAX_BATCH, max_wait_time=int(given[4]))
    server.run()
