"""`python -m service compress|decompress|inspect`: files to containers and back, without a server or a port."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from artifact.errors import ArtifactError
from service.errors import ServiceError
from service.offline import compress, decompress, inspection
from service.offline.errors import UsageError
from service.offline.reporter import Reporter
from service.settings import Settings

COMMANDS = ("compress", "decompress", "inspect")
"""The words that begin a command; anything else is for the server."""

_INTERRUPTED = 130
_BAD_USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: the words after the program's name, the first of them a command.

    Returns:
        The exit status: 0; 1 where a file went wrong, which was told in a line; 2 for a command that cannot be meant
        so; 130 after ctrl-C. What was written by then is whole.
    """
    options = _parser().parse_args(arguments)
    reporter = Reporter()
    try:
        settings = _settings(options)
        is_right = asyncio.run(_RUNS[options.command](options, settings, reporter))
    except UsageError as error:
        reporter.error(str(error))
        return _BAD_USAGE
    except (ServiceError, ArtifactError, OSError) as error:
        reporter.error(str(error))
        return 1
    except KeyboardInterrupt:
        reporter.error("interrupted; what was written is whole")
        return _INTERRUPTED
    return 0 if is_right else 1


_RUNS = {"compress": compress.run, "decompress": decompress.run, "inspect": inspection.run}


def _settings(options: argparse.Namespace) -> Settings:
    """Take the settings of the environment, with the store and the device that the command names."""
    given = {name: value for name in ("store", "device") if (value := getattr(options, name)) is not None}
    if "LATENTD_DEVICE" not in os.environ:
        given.setdefault("device", "cpu")
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]} is {fault['input']!r}: {fault['msg']}" for fault in error.errors())
        raise UsageError(faults) from error


def _parser() -> argparse.ArgumentParser:
    """Declare the commands."""
    parser = argparse.ArgumentParser(
        prog="python -m service", description="Containers without a server; no command at all serves."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files, and folders of files")
    common.add_argument("--store", type=Path, help="folder of the artifacts (default: LATENTD_STORE, or pretrained)")
    common.add_argument(
        "--device", help="cpu, cuda or auto; exact networks run on the CPU (default: LATENTD_DEVICE, or cpu)"
    )
    writing = argparse.ArgumentParser(add_help=False)
    writing.add_argument(
        "-o", "--output", required=True, metavar="OUT",
        help="a folder, which keeps relative paths; for a single file also a file",
    )  # fmt: skip
    writing.add_argument("--force", action="store_true", help="write over files that are there")
    compress.declare(commands.add_parser("compress", parents=[common, writing], help=compress.HELP))
    decompress.declare(commands.add_parser("decompress", parents=[common, writing], help=decompress.HELP))
    commands.add_parser("inspect", parents=[common], help=inspection.HELP)
    return parser
