"""An exact decoder of toys of patches: a table of integers, a row for each code."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from artifact import decoder_golden
from artifact.codes import Arrays
from artifact.exact import ExactParity
from artifact.exact_decoder import DECODER_GOLDEN_FILE, EXACT_DECODE, ExactDecoder
from artifact.graph import Graph
from artifact.manifest import MANIFEST_FILE, Manifest
from artifact.store import file_sha256
from tests.toys.publish import mend_hashes
from tests.toys.tokens import ToyTokens

_TEXT = """<ir_version: 8, opset_import: ["": 17]>
    decode_exact (int32[B,h,w] codes) => (int32[B,H,W,{C}] mean) {{
        z = Gather <axis = 0> (table, codes)  t = Transpose <perm = [0, 3, 1, 2]> (z)
        q = DepthToSpace <blocksize = {s}> (t)  m = Transpose <perm = [0, 2, 3, 1]> (q)  mean = Cast <to = 6> (m)
    }}"""


def means(tokens: ToyTokens, codes: np.ndarray) -> np.ndarray:
    """Give what the decoder gives."""
    return np.clip(np.rint(16 * tokens.decode(codes)), 0, 4080).astype(np.int32)


def add_exact_decoder(folder: Path, tokens: ToyTokens) -> None:
    """Give a published toy of any size an exact decoder."""
    s, C = tokens.downsampling, tokens.channels
    every = np.arange(tokens.num_embeddings, dtype=np.int32)[:, None, None]
    table = means(tokens, every).astype(np.float32).reshape(len(every), s * s * C)
    model = onnx.parser.parse_model(_TEXT.format(s=s, C=C))
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    path = folder / f"{EXACT_DECODE}.onnx"
    path.write_bytes(model.SerializeToString())
    content = json.loads((folder / MANIFEST_FILE).read_text())
    decode = Manifest.model_validate(content).graphs["decode"]
    mean = decode.outputs[0].model_copy(update={"dtype": "int32", "maximum": 4080, "unit": "1/16 intensity"})
    graph = Graph(file=path.name, sha256=file_sha256(path), opset=17, inputs=decode.inputs, outputs=(mean,))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(role: str, feeds: Arrays) -> Arrays:
        del role
        return {"mean": session.run(["mean"], feeds)[0]}

    decoder_golden.record({"codes": every.reshape(1, 1, -1)}, run, folder / DECODER_GOLDEN_FILE)
    part = ExactDecoder(
        graphs={EXACT_DECODE: graph},
        canonical_hash=file_sha256(path),
        float_mse=1.0,
        exact_mse=1.0,
        parity=ExactParity(grids=1, integers=1),
    )
    content["exact_decoder"] = json.loads(part.model_dump_json())
    content["files"][DECODER_GOLDEN_FILE] = file_sha256(folder / DECODER_GOLDEN_FILE)
    mend_hashes(folder / MANIFEST_FILE, content)
