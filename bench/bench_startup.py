"""Claim: from process start to ready in at most 3 s, once installed. Beside it, what starting Python alone takes."""

import statistics
import subprocess
import sys
import time

from bench.measure import service, spread

_RUNS = 5
LIMIT_S = 3.0


def main() -> int:
    """Measure in turns, and print the ratio to a bare interpreter that imports numpy and ONNX Runtime."""
    ready, bare = [], []
    for _ in range(_RUNS):
        with service("--device", "cpu") as (_, seconds):
            ready.append(seconds)
        start_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import numpy, onnxruntime"], check=True)
        bare.append(time.perf_counter() - start_s)
    print(f"start to ready:               {spread(ready, 's')}")
    print(f"python + numpy + onnxruntime: {spread(bare, 's')}")
    print(f"ratio of medians:             {statistics.median(ready) / statistics.median(bare):.2f}")
    print(f"at most {LIMIT_S:g} s: {'yes' if statistics.median(ready) <= LIMIT_S else 'NO'}")
    return 0 if statistics.median(ready) <= LIMIT_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
