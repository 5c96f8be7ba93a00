"""Explains why a port or a certificate can't be used, before a library does in its own words."""

import errno
import socket

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from firmtrail import config
from firmtrail.cli import sockets
from firmtrail.cli.back_ends import back_end
from firmtrail.exits import CouldNotRun


def note_new(database: config.DatabaseUrl) -> None:
    """Reports that a command creates a database: it may have been started in the wrong folder."""
    path = back_end(database).missing_file()
    if path is not None and path.parent.is_dir():
        click.echo(f"There is no database {path} yet: creating a new, empty one.", err=True)


def check_address(host: str, port: int) -> None:
    """Raises `CouldNotRun` with what to change if a server can't listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CouldNotRun(
            f"--host {host} is not an address of this machine: {error.strerror}."
        ) from error
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
    try:
        load_pem_x509_certificates(tls.certificate.read_bytes())
    except ValueError:
        return f"{tls.certificate} of --tls-cert is not a certificate in PEM form."
    try:
        load_pem_private_key(tls.key.read_bytes(), password=None)
    except TypeError:
        return f"The key {tls.key} of --tls-key has a password: give a key without a password."
    except (ValueError, UnsupportedAlgorithm):
        return f"{tls.key} of --tls-key is not a private key in PEM form."
    return f"The key {tls.key} of --tls-key does not belong to the certificate {tls.certificate}."
