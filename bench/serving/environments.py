"""The frameworks that the service is compared with, each in an environment of its own below `.bench-env/`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).parents[2]
_FOLDER = ROOT / ".bench-env"
_PACKAGES = {
    "mosec": "mosec==0.9.8",
    "litserve": "litserve==0.2.19",
    "bentoml": "bentoml==1.4.39",
    "ray": "ray[serve]==2.60.0",
}


class InstallError(Exception):
    """A framework cannot be installed; the message says why."""


def python_of(name: str) -> Path:
    """Name the interpreter of a framework's environment."""
    return _FOLDER / name / "bin" / "python"


def install(name: str) -> None:
    """Make a framework's environment, unless it is there.

    Args:
        name: of the framework.

    Raises:
        InstallError: pip cannot install it.
    """
    packages = [_PACKAGES[name], f"onnxruntime=={onnxruntime.__version__}", f"numpy=={np.__version__}"]
    done = _FOLDER / name / "installed.txt"
    if done.exists() and done.read_text("utf-8").split() == packages:
        return
    print(f"installing {_PACKAGES[name]} into {python_of(name).parents[1]}", file=sys.stderr)
    _run([sys.executable, "-m", "venv", str(_FOLDER / name)])
    _run([str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    done.write_text("\n".join(packages) + "\n", "utf-8")


def _run(command: list[str]) -> None:
    """Run one step.

    Raises:
        InstallError: it failed.
    """
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if finished.returncode:
        raise InstallError(finished.stdout.strip().splitlines()[-1] if finished.stdout.strip() else "no message")
