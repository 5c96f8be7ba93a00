"""Finds out why a database, a port or a certificate can't be used, before a library says it in its
own words.
"""

import errno
import os
import re
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from firmtrail import config
from firmtrail.cli import sockets
from firmtrail.database.database import Unavailable
from firmtrail.exits import CouldNotRun

_DRIVERS_WORDS = re.compile(r"^\w+(Error|Exception): |\[Errno -?\d+\] ")
"""The name of an error's class, and its number: what a person does not need."""


def note_new(database: config.Database) -> None:
    """Say that a command creates a database: it may have been started in the wrong folder."""
    if isinstance(database, config.Embedded) and not database.path.exists():
        path = database.path.absolute()
        if path.parent.is_dir():
            click.echo(f"There is no database {path} yet: creating a new, empty one.", err=True)


def unwritable(path: Path) -> str:
    """Say why this process can't write the database file; "" where it can."""
    path = path.absolute()
    folder = path.parent
    if not folder.is_dir():
        return (
            f"The folder {folder} of the database does not exist: create it, or name another "
            "database with --database."
        )
    if path.is_dir():
        return f"{path} is a folder, and no database: name a file with --database."
    if path.exists() and not os.access(path, os.W_OK):
        return (
            f"This user can't write to the database {path}: run the command as the file's owner, "
            "or change its mode."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return (
            f"This user can't write to the folder {folder}, where the database's lock and log "
            "belong: change its mode, or name another database with --database."
        )
    return ""


def away(database: config.Cluster, error: Unavailable) -> str:
    """Say which Postgres can't be used; the password is left out."""
    parts = urlsplit(database.url)
    hosts = parse_qs(parts.query).get("host", [])
    where = f"{database} of host {hosts[0]}" if hosts else str(database)
    said = _DRIVERS_WORDS.sub("", str(error)).rstrip(".")
    return (
        f"The database {where} can't be used ({said}): check that Postgres runs there, and that "
        "--database names the right host, database and user."
    )


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
        f"The server can't listen on {host} port {port} ({error.strerror}): choose others with "
        "--host and --port."
    )


def check_tls(tls: config.Tls) -> None:
    """Raise `CouldNotRun` where certificate and key can't be used, naming the file."""
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
        return f"{tls.key} of --tls-key has a password: give a key without one."
    except (ValueError, UnsupportedAlgorithm):
        return f"{tls.key} of --tls-key is not a private key in PEM form."
    return f"The key {tls.key} of --tls-key does not belong to the certificate {tls.certificate}."
