"""What all peers share: the graph in ONNX Runtime, and the batch that they gather."""

import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

MAX_BATCH = 16
"""Half of the callers: while one batch runs, the next is gathered."""
WAIT_S = 0.002

_SHAPE = (64, 64, 3)
_WORDS = "BENCH_PEER"


def hand_down(words: list[str]) -> None:
    """Leave the words of the command line to the processes that a framework starts."""
    os.environ[_WORDS] = "\n".join(words)


def words() -> list[str]:
    """Read the words of the command line."""
    return os.environ[_WORDS].split("\n")


def picture(body: bytes) -> NDArray[np.uint8]:
    """Take the body of a request for the picture that it is."""
    return np.frombuffer(body, np.uint8).reshape(_SHAPE)


class Graph:
    """The graph, opened as it is for bare ONNX Runtime."""

    def __init__(self) -> None:
        path, output, threads = words()[:3]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(threads)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._output = output

    def run(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Run a batch, `[B, 64, 64, 3]`."""
        answer: NDArray[Any] = self._session.run([self._output], {"x": images})[0]
        return answer
