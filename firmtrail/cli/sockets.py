"""Opens what a server listens on, and says in plain words why it can't."""

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from firmtrail import config
from firmtrail.main import CouldNotRun

BACKLOG = 1024
"""How many connections the kernel keeps until they are accepted (listen(2))."""
_log = structlog.get_logger("firmtrail")


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


class Certificates:
    """The certificate chain and key of a server, which can be read again while it serves."""

    def __init__(self, tls: config.Tls) -> None:
        """Raises OSError for files that are no certificate and key."""
        self._tls = tls
        self.context = tls_context(tls)
        """TLS 1.2 and newer; a connection uses what was loaded last before its handshake."""

    def reload(self) -> None:
        """Read both files again. Raises OSError, and the old ones stay in use."""
        tls_context(self._tls)
        self.context.load_cert_chain(self._tls.certificate, self._tls.key, _no_password)

    def reload_or_log(self) -> None:
        """The same; an error is logged."""
        try:
            self.reload()
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
    """TLS 1.2 and newer. Raises OSError, naming the file that is no certificate or key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (ssl.SSLError, _HasPassword) as error:
        raise OSError(_fault(tls)) from error
    return context


class _HasPassword(Exception):
    """The key's file is encrypted."""


def _no_password() -> str:
    """OpenSSL asks at the terminal otherwise, and a server has none."""
    raise _HasPassword


def _fault(tls: config.Tls) -> str:
    try:
        load_pem_x509_certificates(tls.certificate.read_bytes())
    except ValueError:
        return f"{tls.certificate} of --tls-cert is not a certificate in PEM form."
    try:
        load_pem_private_key(tls.key.read_bytes(), password=None)
    except TypeError:
        return f"{tls.key} of --tls-key has a password: give a key without one."
    except (ValueError, UnsupportedAlgorithm):
        return f"{tls.key} of --tls-key is not a private key in PEM form."
    return f"The key {tls.key} of --tls-key does not belong to the certificate {tls.certificate}."


def check_address(host: str, port: int) -> None:
    """Raise `CouldNotRun` where a server could not listen, with what to change."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        said = error.strerror
        raise CouldNotRun(f"--host {host} is no address of this machine: {said}.") from error
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            raise CouldNotRun(_not_bound(host, port, error)) from error


def _not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is taken by another program: stop that program, or choose "
            "another port with --port, where 0 takes any free one."
        )
    if error.errno == errno.EACCES:
        return f"This user may not listen on port {port}: choose one above 1023 with --port."
    return (
        f"The server can't listen on {host} port {port}: {error.strerror}; see --host and --port."
    )


def url(host: str, port: int, *, is_tls: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{name}:{port}"
