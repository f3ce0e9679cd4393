"""HTTPS: certificates read and checked before anything else is loaded."""

import ssl
from pathlib import Path

from service.errors import ConfigurationError
from service.settings import Settings


def context(settings: Settings) -> ssl.SSLContext | None:
    """Make what HTTPS is answered with.

    Args:
        settings: name the files.

    Returns:
        The context; None where no certificate is named, and HTTP is answered.

    Raises:
        ConfigurationError: a file is missing, is not what it should be, or does not fit the others.
    """
    if settings.tls_cert is None:
        for name in ("tls_key", "tls_key_password_file", "tls_client_ca"):
            if getattr(settings, name) is not None:
                raise ConfigurationError(f"{_variable(name)} is set without LATENTD_TLS_CERT; name the certificate too")
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_alpn_protocols(["http/1.1"])
    _load(made, settings, settings.tls_cert)
    return made


def renew(live: ssl.SSLContext, settings: Settings) -> None:
    """Read the files again; connections that are made from now on use them.

    Args:
        live: the context in use.
        settings: name the files.

    Raises:
        ConfigurationError: see `context`; the live context stays as it was.
    """
    if settings.tls_cert is not None and context(settings) is not None:
        _load(live, settings, settings.tls_cert)


def _load(into: ssl.SSLContext, settings: Settings, certificate: Path) -> None:
    """Read the files into a context."""
    _check_certificates("tls_cert", certificate)
    key = settings.tls_key
    if key is not None:
        _read("tls_key", key)
    try:
        into.load_cert_chain(certificate, key, lambda: _password(settings))
    except ssl.SSLError as error:
        raise ConfigurationError(_explain(error, settings)) from error
    if settings.tls_client_ca is not None:
        _check_certificates("tls_client_ca", settings.tls_client_ca)
        into.load_verify_locations(settings.tls_client_ca)
        into.verify_mode = ssl.CERT_REQUIRED


def _explain(error: ssl.SSLError, settings: Settings) -> str:
    """Say why a certificate and its key were not taken."""
    place = f"LATENTD_TLS_KEY {settings.tls_key}" if settings.tls_key else f"LATENTD_TLS_CERT {settings.tls_cert}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{place} is not the key of the certificate in {settings.tls_cert}; name the key that it was made with"
    if settings.tls_key_password_file is not None:
        return f"{place} holds no private key in PEM that {settings.tls_key_password_file} has the password of"
    return f"{place} holds no private key in PEM; name the file with the key in LATENTD_TLS_KEY"


def _password(settings: Settings) -> bytes:
    """Read the password of the key; called for an encrypted one alone."""
    if settings.tls_key_password_file is None:
        raise ConfigurationError(
            "the TLS key is encrypted; name the file with its password in LATENTD_TLS_KEY_PASSWORD_FILE, or decrypt it"
        )
    return _read("tls_key_password_file", settings.tls_key_password_file).rstrip(b"\r\n")


def _check_certificates(name: str, path: Path) -> None:
    """Refuse a file without certificates, which OpenSSL does not tell from a bad key."""
    _read(name, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigurationError(f"{_variable(name)} {path} holds no certificates in PEM") from error


def _read(name: str, path: Path) -> bytes:
    """Read a file that a setting names."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{_variable(name)} {path} cannot be read: {error.strerror}") from error


def _variable(name: str) -> str:
    """Write a setting as its environment variable."""
    return f"LATENTD_{name.upper()}"
