"""What is served: a model of a store, the picture that is sent, and the answer that everyone must give."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from artifact.store import Store

PICTURE = Path(__file__).with_name("picture.png")
"""64x64 pixels, RGB."""
STORES = {"bench-encoder": Path(__file__).with_name("model"), "photo-vq": Path("pretrained")}
"""The models that can be measured, and where they lie."""


@dataclass(frozen=True)
class Subject:
    """A model and what it is asked.

    Attributes:
        model: its name.
        store: a copy of the store with this model alone, so that nothing is written into the original.
        graph: the ONNX file of `encode`.
        output: the graph's first output, which is what is answered.
        threads: of one run of the graph.
    """

    model: str
    store: Path
    graph: Path
    output: str
    threads: int

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture, `[1, 64, 64, 3]`."""
        with Image.open(PICTURE) as picture:
            return np.asarray(picture)[None]

    def session(self) -> onnxruntime.InferenceSession:
        """Open the graph with nothing around it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        return onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])

    def expected(self) -> NDArray[Any]:
        """Run the picture: what every server must answer, `[1, ...]`."""
        answer: NDArray[Any] = self.session().run([self.output], {"x": self.image})[0]
        return answer


@contextmanager
def subject(model: str, threads: int) -> Iterator[Subject]:
    """Lay a model out for the benchmark.

    Args:
        model: one of `STORES`.
        threads: of one run of the graph.

    Yields:
        The subject, whose files are there until the block ends.
    """
    artifact = Store(STORES[model]).open(model)
    with TemporaryDirectory(prefix="latentd-bench-") as folder:
        path = Path(folder) / model / str(artifact.version)
        copytree(artifact.path, path)
        graph = artifact.manifest.graphs["encode"]
        yield Subject(model, Path(folder), path / graph.file, graph.outputs[0].name, threads)
