"""BentoML: `python -m bench.serving.peers.bentoml GRAPH OUTPUT THREADS PORT`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from bench.serving.peers.graph import MAX_BATCH, Graph, hand_down, picture

_Picture = Annotated[Any, BeforeValidator(lambda body: picture(body)[None]), WithJsonSchema({"type": "file"})]
_Answer = Annotated[Any, PlainSerializer(lambda rows: rows.tobytes()), WithJsonSchema({"type": "file"})]


@bentoml.service(workers=1, traffic={"timeout": 30})
class Encoder:
    """The graph."""

    def __init__(self) -> None:
        self._graph = Graph()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000)
    def encode(self, x: _Picture, /) -> _Answer:
        """Run what was gathered."""
        return self._graph.run(x)


if __name__ == "__main__":
    hand_down(sys.argv[1:])
    command = Path(sys.executable).with_name("bentoml")
    name = "bench.serving.peers.bentoml:Encoder"
    os.execv(command, [str(command), "serve", name, "--host", "127.0.0.1", "--port", sys.argv[4]])
