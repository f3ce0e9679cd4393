"""`python -m service.probe`: ask this machine's own service whether it is ready, as a container's health check does."""

import ssl
import sys
import urllib.error
import urllib.request

from service.settings import Settings


def main() -> int:
    """Ask `/readyz` with the settings of the environment.

    Returns:
        The exit status: 0 where the service is ready, else 1.
    """
    settings = Settings()
    # The certificate names the machine as others know it, so it says nothing here.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    scheme = "https" if settings.tls_cert else "http"
    url = f"{scheme}://127.0.0.1:{settings.port}/readyz"
    try:
        urllib.request.urlopen(url, timeout=2, context=context if settings.tls_cert else None).close()
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)  # noqa: T201 - for whoever reads the container's health
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
