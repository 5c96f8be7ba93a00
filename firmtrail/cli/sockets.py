"""Creates the sockets that a server listens on, and loads its TLS certificate."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import structlog

from firmtrail import config

BACKLOG = 1024
"""How many connections the kernel queues until they are accepted (listen(2))."""
_log = structlog.get_logger("firmtrail")


@contextlib.contextmanager
def private_socket(path: Path) -> Iterator[socket.socket]:
    """Binds a unix socket that only its owner can connect to, and removes it at the end.

    A socket that an ended process left at the path is replaced: the caller knows that no process
    serves there.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        path.chmod(0o600)  # nobody can connect before it listens
        try:
            yield bound
        finally:
            path.unlink(missing_ok=True)


class Certificates:
    """Holds a server's certificate chain and key, which can be read again while it serves."""

    def __init__(self, tls: config.Tls) -> None:
        """Reads both files. Raises OSError for files that are not a certificate and its key."""
        self._tls = tls
        self.context = tls_context(tls)
        """TLS 1.2 and newer. A connection uses the certificate that was loaded before its
        handshake."""

    def reload_or_log(self) -> None:
        """Reads both files again. If they can't be used, logs why and keeps the old certificate."""
        try:
            tls_context(self._tls)
            self.context.load_cert_chain(self._tls.certificate, self._tls.key, _no_password)
        except OSError as error:
            _log.error(
                "the TLS certificate was not replaced; the old one stays in use",
                certificate=str(self._tls.certificate),
                key=str(self._tls.key),
                reason=str(error),
            )
        else:
            _log.info("the TLS certificate was read again", certificate=str(self._tls.certificate))


def tls_context(tls: config.Tls) -> ssl.SSLContext:
    """Returns a context for TLS 1.2 and newer. Raises OSError for files that can't be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.certificate, tls.key, _no_password)
    return context


def _no_password() -> str:
    """Refuses a key that needs a password: OpenSSL would ask for it at the terminal."""
    raise OSError("the key needs a password; give a key without one")


def url(host: str, port: int, *, is_tls: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{name}:{port}"
