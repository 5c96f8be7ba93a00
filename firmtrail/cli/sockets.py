"""Creates the sockets that a server listens on, and loads its TLS certificate."""

import contextlib
import os
import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
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
    with _bound(path, 0o600) as bound:
        yield bound


@contextlib.contextmanager
def proxy_socket(path: Path) -> Iterator[socket.socket]:
    """Binds a unix socket for the proxies of this machine, and removes it at the end.

    Its owner and its group may connect. A socket that no process serves any more is replaced.
    Raises OSError, also if a process serves it, or if the path is something else.
    """
    _remove_unserved(path)
    with _bound(path, 0o660) as bound:
        yield bound


@contextlib.contextmanager
def _bound(path: Path, mode: int) -> Iterator[socket.socket]:
    """Binds a unix socket, and removes it at the end. A worker is a fork of the process that calls
    this, and leaves through this same block; only that process removes the socket."""
    creator = os.getpid()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        path.chmod(mode)  # nobody can connect before it listens
        try:
            yield bound
        finally:
            if os.getpid() == creator:
                path.unlink(missing_ok=True)


def _remove_unserved(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise FileExistsError(f"another process serves {path}")
        path.unlink()


def tcp_sockets(host: str, port: int) -> list[socket.socket]:
    """Binds a socket on every address that the host's name stands for. All have the same port. They
    do not listen yet. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, *_, address in found))
    with contextlib.ExitStack() as stack:
        bound: list[socket.socket] = []
        for family, (name, _, *scope) in addresses:
            here = stack.enter_context(socket.socket(family))
            here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                here.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            here.bind((name, port_of(bound) or port, *scope))
            bound.append(here)
        stack.pop_all()
        return bound


def port_of(bound: Sequence[socket.socket]) -> int:
    """Returns the port of the first socket that has one; 0: none has."""
    ports = (int(each.getsockname()[1]) for each in bound if each.family != socket.AF_UNIX)
    return next(ports, 0)


def paths_of(bound: Sequence[socket.socket]) -> frozenset[str]:
    """Returns the paths of the unix sockets among these."""
    return frozenset(str(each.getsockname()) for each in bound if each.family == socket.AF_UNIX)


def urls_of(bound: Sequence[socket.socket], *, is_tls: bool) -> list[str]:
    """Returns the addresses of the sockets, for people: URLs, and unix:PATH for unix sockets."""
    return [
        f"unix:{each.getsockname()}"
        if each.family == socket.AF_UNIX
        else url(*each.getsockname()[:2], is_tls=is_tls)
        for each in sorted(bound, key=lambda each: each.family == socket.AF_UNIX)
    ]


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
            _load(self._tls, self.context)
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
    _load(tls, context)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL  # people and gateways have tokens instead
        # Python 3.13 and newer would also refuse certificates without a key identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load(tls: config.Tls, context: ssl.SSLContext) -> None:
    """Loads the files. An authority that was loaded before stays until the process ends."""
    context.load_cert_chain(tls.certificate, tls.key, _no_password)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)


def _no_password() -> str:
    """Refuses a key that needs a password: OpenSSL would ask for it at the terminal."""
    raise OSError("the key needs a password; give a key without one")


def url(host: str, port: int, *, is_tls: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{name}:{port}"
