"""What a server listens on, and how commands of its owner find it."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from firmtrail import config


@contextlib.contextmanager
def private_socket(path: Path) -> Iterator[socket.socket]:
    """A unix socket that only its owner can connect to, bound; removed in the end.

    What an ended process left at the path is replaced: the caller knows that none serves there.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        path.chmod(0o600)  # nobody can connect before it listens
        try:
            yield bound
        finally:
            path.unlink(missing_ok=True)


def tls_context(tls: config.Tls) -> ssl.SSLContext:
    """TLS 1.2 and newer. Raises OSError for files that are no certificate and key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def url(host: str, port: int, *, is_tls: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{name}:{port}"
