"""Claim: what HTTP and batching cost on top of ONNX Runtime: rows/s of `/encode` against a bare session, one run."""

import asyncio
import io
import statistics
import time
from pathlib import Path

import httpx
import numpy as np
import onnxruntime

from artifact.store import Store
from bench.measure import service, spread

_RUNS = 5
_BATCH = 32
_REQUESTS = 60
_CONNECTIONS = 4


def main() -> int:
    """Alternate bare runs and requests, and print the ratio of their medians."""
    artifact = Store(Path("pretrained")).open("digits-vae")
    session = onnxruntime.InferenceSession(artifact.file("encode"), providers=["CPUExecutionProvider"])
    images = (np.random.default_rng(0).random((_BATCH, 28, 28, 1)) > 0.8).astype(np.uint8) * np.uint8(255)
    bare, served = [], []
    with service("--device", "cpu") as (address, _):
        asyncio.run(_served_rows_per_s(address, images))
        for _ in range(_RUNS):
            bare.append(_bare_rows_per_s(session, images))
            served.append(asyncio.run(_served_rows_per_s(address, images)))
    print(f"bare ONNX Runtime, batch {_BATCH}: {spread(bare, 'rows/s')}")
    print(f"/encode, npy of {_BATCH}, {_CONNECTIONS} connections: {spread(served, 'rows/s')}")
    print(f"ratio of medians: {statistics.median(served) / statistics.median(bare):.2f}")
    return 0


def _bare_rows_per_s(session: onnxruntime.InferenceSession, images: np.ndarray) -> float:
    """Run the graph with nothing around it."""
    session.run(None, {"x": images})
    start_s = time.perf_counter()
    for _ in range(_REQUESTS):
        session.run(None, {"x": images})
    return _REQUESTS * len(images) / (time.perf_counter() - start_s)


async def _served_rows_per_s(address: str, images: np.ndarray) -> float:
    """Send the same batches over a few connections."""
    buffer = io.BytesIO()
    np.save(buffer, images)
    headers = {"content-type": "application/x-npy", "accept": "application/x-npy"}
    content, url = buffer.getvalue(), f"{address}/encode?model=digits-vae"

    async def worker(client: httpx.AsyncClient, count: int) -> None:
        for _ in range(count):
            (await client.post(url, content=content, headers=headers)).raise_for_status()

    async with httpx.AsyncClient() as client:
        await worker(client, 2)
        start_s = time.perf_counter()
        await asyncio.gather(*(worker(client, _REQUESTS // _CONNECTIONS) for _ in range(_CONNECTIONS)))
        return _REQUESTS * len(images) / (time.perf_counter() - start_s)


if __name__ == "__main__":
    raise SystemExit(main())
