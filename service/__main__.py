"""`python -m service`: a server, or a command that needs none."""

import sys


def _main() -> int:
    """Serve, unless the first word is a command; neither loads what the other alone needs."""
    if sys.argv[1:] and sys.argv[1] in ("compress", "decompress", "inspect"):
        from service.offline import cli as offline

        return offline.main(sys.argv[1:])
    from service import cli

    return cli.main()


raise SystemExit(_main())
