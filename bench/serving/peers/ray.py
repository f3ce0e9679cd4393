"""Ray Serve: `python -m bench.serving.peers.ray GRAPH OUTPUT THREADS PORT`."""

import signal
import sys

import numpy as np
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.serving.peers.graph import MAX_BATCH, WAIT_S, Graph, hand_down, picture


class Encoder:
    """The graph in a process of its own."""

    def __init__(self, words: list[str]) -> None:
        hand_down(words)
        self._graph = Graph()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def encode(self, bodies: list[bytes]) -> list[bytes]:
        """Run what was gathered."""
        return [row.tobytes() for row in self._graph.run(np.stack([picture(body) for body in bodies]))]

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        return Response(await self.encode(await request.body()))


if __name__ == "__main__":
    ray.init(include_dashboard=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[4])})
    serve.run(serve.deployment(max_ongoing_requests=1000)(Encoder).bind(sys.argv[1:]))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
