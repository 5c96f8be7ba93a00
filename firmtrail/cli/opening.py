"""Opens what a server listens on, and explains why a port or a certificate can't be used before a
library does in its own words."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from firmtrail import config
from firmtrail.cli import sockets, systemd
from firmtrail.cli.back_ends import back_end
from firmtrail.exits import CouldNotRun


def note_new(database: config.DatabaseUrl) -> None:
    """Reports that a command creates a database: it may have been started in the wrong folder."""
    path = back_end(database).missing_file()
    if path is not None and path.parent.is_dir():
        click.echo(f"There is no database {path} yet: creating a new, empty one.", err=True)


@contextlib.contextmanager
def listening(serving: config.Serving) -> Iterator[list[socket.socket]]:
    """Binds the sockets of a server until the end. Sockets that the service manager has opened for
    it are used instead of the options. Raises `CouldNotRun` with what to change."""
    with contextlib.ExitStack() as stack:
        bound = systemd.inherited_sockets()
        if not bound:
            for host in serving.hosts:
                bound += _bound(host, sockets.port_of(bound) or serving.port)
            if serving.unix_socket is not None:
                bound.append(stack.enter_context(_unix_socket(serving.unix_socket)))
        for each in bound:
            stack.callback(each.close)
        yield bound


def _bound(host: str, port: int) -> list[socket.socket]:
    try:
        return sockets.tcp_sockets(host, port)
    except socket.gaierror as error:
        raise CouldNotRun(
            f"--host {host} is not an address of this machine: {error.strerror}."
        ) from error
    except OSError as error:
        raise CouldNotRun(_not_bound(host, port, error)) from error


@contextlib.contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    with contextlib.ExitStack() as stack:
        try:
            bound = stack.enter_context(sockets.proxy_socket(path))
        except OSError as error:
            raise CouldNotRun(
                f"The server can't listen on --unix-socket {path} ({error.strerror or error}): "
                "name a path in a folder that this user may write to."
            ) from error
        yield bound


def _not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Another program uses port {port} of {host}: stop that program, or choose another "
            "port with --port; --port 0 takes any free one."
        )
    if error.errno == errno.EACCES:
        return f"This user may not listen on port {port}: choose a port above 1023 with --port."
    return (
        f"The server can't listen on {host} port {port} ({error.strerror}): choose another address "
        "or port with --host and --port."
    )


def check_tls(tls: config.Tls) -> None:
    """Raises `CouldNotRun`, naming the file, if the certificate or its key can't be used."""
    try:
        sockets.tls_context(tls)
    except OSError as error:
        raise CouldNotRun(_fault_of(tls)) from error


def _fault_of(tls: config.Tls) -> str:
    for file, option in ((tls.certificate, "--tls-cert"), (tls.client_ca, "--tls-client-ca")):
        try:
            load_pem_x509_certificates(file.read_bytes() if file else b"")
        except ValueError:
            if file is not None:
                return f"{file} of {option} is not a certificate in PEM form."
    try:
        load_pem_private_key(tls.key.read_bytes(), password=None)
    except TypeError:
        return f"The key {tls.key} of --tls-key has a password: give a key without a password."
    except (ValueError, UnsupportedAlgorithm):
        return f"{tls.key} of --tls-key is not a private key in PEM form."
    return f"The key {tls.key} of --tls-key does not belong to the certificate {tls.certificate}."
