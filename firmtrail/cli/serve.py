"""`firmtrail serve`: reads and checks the options, and starts one process or several."""

import contextlib
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import click

from firmtrail import config, environment
from firmtrail.cli.numbers import Number, Whole
from firmtrail.cli.settings import (
    LOCATION,
    NETWORKS,
    PROTOCOLS,
    archive_option,
    artifacts_option,
    check_read_database,
    one_location,
    read_database_option,
)
from firmtrail.database import collector
from firmtrail.exits import CouldNotRun

DEMO_PROJECT = "demo"
LOCALHOST = "localhost"


_pem_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--host",
    multiple=True,
    default=("127.0.0.1",),
    help="The address to listen on; may be given several times. In the variable, spaces separate "
    "them.",
)
@click.option(
    "--port", default=8080, type=Whole(0, 65535), help="The port to listen on; 0 takes a free port."
)
@click.option(
    "--unix-socket",
    type=click.Path(path_type=Path),
    help="Listen on this socket too. Only the user and the group of this process can connect to "
    "it, and they are trusted as --trusted-proxies are.",
)
@click.option(
    "--workers",
    default=1,
    type=Whole(1, 64),
    help="The number of processes that take requests. One more writes an embedded database.",
)
@click.option("--demo", is_flag=True, help="Serve a demo project and the three plain routes.")
@click.option(
    "--seed-api", metavar="PROJECT", help="Serve the three plain routes for this project."
)
@click.option(
    "--demo-public",
    is_flag=True,
    help="Let --demo listen on an address that other machines can reach. Its password is public.",
)
@click.option("--tls-cert", type=_pem_file, help="The certificate chain, as a PEM file.")
@click.option("--tls-key", type=_pem_file, help="The certificate's key, as a PEM file.")
@click.option(
    "--tls-client-ca",
    type=_pem_file,
    help="The authorities whose certificates devices may present, as a PEM file. The project's "
    "setting certificate_pattern says which device a certificate is for.",
)
@click.option(
    "--certificate-header",
    metavar="NAME",
    help="The header in which --trusted-proxies pass on the certificate of a device, after they "
    "have verified it: as in RFC 9440, or as nginx's $ssl_client_escaped_cert.",
)
@click.option(
    "--signing-key-file", type=_pem_file, help="The same as the option before the command."
)
@click.option(
    "--checkpoints-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The same as the option before the command.",
)
@click.option("--checkpoints", type=LOCATION, help="The same as the option before the command.")
@click.option(
    "--no-publishing",
    is_flag=True,
    help="Serve a Postgres without a signing key. No checkpoints are published, and if the "
    "database is rolled back, positions are given out twice without anybody noticing.",
)
@click.option(
    "--drain-delay",
    "drain_delay_s",
    default=0.0,
    type=Number(min=0, max=3600),
    help="Seconds after SIGTERM in which requests are still accepted while /readyz answers 503, "
    "so that a load balancer notices. A second signal ends the delay.",
)
@click.option(
    "--write-timeout",
    "write_timeout_s",
    default=config.WRITE_TIMEOUT_S,
    type=Number(min=0.1, max=3600),
    help="Disconnect a streaming client that does not read, or send, 256 KiB within this many "
    "seconds.",
)
@click.option(
    "--streams-max",
    default=config.STREAMS_MAX,
    type=Whole(1, 100_000),
    help="How many clients may follow logs, per process.",
)
@click.option(
    "--trusted-proxies",
    type=NETWORKS,
    default=(),
    show_default=False,
    help="Networks of the proxies in front of this server, separated by commas. Only from "
    "these are the headers X-Forwarded-For, -Proto, -Host, -Prefix and Forwarded accepted.",
)
@click.option(
    "--connections-max",
    type=Whole(min=1),
    help="The most client connections that each process accepts. Without it, as many as the limit "
    "of file descriptors allows, with a reserve, up to 10 000.",
)
@click.option(
    "--connections-per-address",
    "connections_per_address_max",
    type=Whole(min=1),
    help="The most connections from one client address; an IPv6 /64 counts as one address, and a "
    "trusted proxy is not limited. Without it, a quarter of --connections-max.",
)
@click.option(
    "--projects",
    default="operator",
    type=click.Choice(get_args(config.ProjectMakers.__value__)),
    help="The people who may create projects: only the operator, with `firmtrail project add`, or "
    "every person with a login.",
)
@click.option(
    "--long-poll-max",
    "long_poll_s_max",
    default=config.LONG_POLL_S_MAX,
    type=Number(min=0, max=60),
    help="The most seconds that a request with wait= waits. Choose less than the time limit of "
    "every proxy on the way.",
)
@click.option(
    "--protocols",
    type=PROTOCOLS,
    default=",".join(config.PROTOCOLS),
    help="The protocols that devices may speak to this server, separated by commas. Routes of "
    "other protocols do not exist; without native, Firmtrail's own routes for devices.",
)
@click.option(
    "--oidc-issuer",
    help="An OpenID Connect provider, by its https address, where people sign in to the console "
    "too. Members are matched by the e-mail address that it has verified.",
)
@click.option("--oidc-client-id", help="The name under which the provider knows this server.")
@click.option(
    "--oidc-client-secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the secret that the provider gave to this server.",
)
@click.option(
    "--webhooks-allow",
    type=NETWORKS,
    default=(),
    show_default=False,
    help="Networks, separated by commas, that webhooks may reach although they are not part of the "
    "public internet, such as 10.1.0.0/16. Without it, no private address is reached.",
)
@click.option(
    "--log-level",
    default="info",
    type=click.Choice(get_args(config.LogLevel.__value__)),
    help="The least severe lines that are logged; debug adds a line for each request of a device.",
)
@click.option(
    "--log-format",
    default="auto",
    type=click.Choice(get_args(config.LogFormat.__value__)),
    help="The form of log lines: auto is text on a terminal, else JSON.",
)
@click.option(
    "--traces",
    metavar="URL",
    help="Send a span of each request to this collector, in OpenTelemetry's protocol over HTTP. "
    "Needs the extra firmtrail[tracing].",
)
@read_database_option
@artifacts_option
@click.option(
    "--artifact-bytes-max",
    default=config.ARTIFACT_BYTES_MAX,
    type=Whole(min=1),
    help="The largest artifact that is accepted, in bytes.",
)
@archive_option
@click.option("--instance", default="firmtrail", help="The name of this installation.")
@click.pass_obj
def serve(database: config.DatabaseUrl, /, **options: Any) -> None:
    """Serve the API until SIGTERM or SIGINT.

    An embedded database is created and migrated, and only this server may write to it. A Postgres
    must be migrated first, with `firmtrail migrate`.
    """
    serving = _serving(database, **options)
    _check_publishing(serving)
    _check_traces(serving.traces)
    with contextlib.ExitStack() as stack:
        if serving.workers > 1:
            folder = stack.enter_context(_shared_folder())
            environment.share_metrics(str(folder))  # before any import of prometheus_client
            serving = replace(serving, metrics_folder=folder)
        bound = stack.enter_context(_started(serving))
        paths = collector.imported("firmtrail.cli.sockets").paths_of(bound)
        serving = replace(serving, proxy_sockets=paths)
        server = "server" if serving.workers == 1 else "workers"
        collector.imported(f"firmtrail.cli.{server}").serve(serving, bound)


def _serving(
    database: config.DatabaseUrl,
    *,
    host: tuple[str, ...],
    demo: bool,
    demo_public: bool,
    seed_api: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    signing_key_file: Path | None,
    checkpoints_file: Path | None,
    checkpoints: config.StorageLocation | None,
    oidc_issuer: str | None,
    oidc_client_id: str | None,
    oidc_client_secret_file: Path | None,
    archive: config.StorageLocation | None,
    **settings: Any,
) -> config.Serving:
    """Turns the options into settings. Raises `UsageError` for options that exclude each other."""
    if demo:
        _check_demo(host, seed_api, is_public=demo_public)
    location = one_location(checkpoints_file, checkpoints)
    serving = config.Serving(
        database=config.archived(config.signed(database, signing_key_file, location), archive),
        archive=archive,
        seed_project=DEMO_PROJECT if demo else seed_api,
        is_demo=demo,
        hosts=host,
        tls=_tls(tls_cert, tls_key, tls_client_ca),
        oidc=_oidc(oidc_issuer, oidc_client_id, oidc_client_secret_file),
        **settings,
    )
    _check_proxies(serving)
    if serving.archive is not None and serving.no_publishing:
        raise click.UsageError(
            "--archive and --no-publishing exclude each other: an archive holds what is signed."
        )
    check_read_database(serving)
    return serving


def _check_traces(url: str | None) -> None:
    if url is None:
        return
    if urlsplit(url).scheme not in {"http", "https"}:
        raise click.UsageError("--traces has to be an http or https address.")
    if find_spec("opentelemetry") is None:
        raise CouldNotRun("--traces needs more packages: run `pip install 'firmtrail[tracing]'`.")


def _check_proxies(serving: config.Serving) -> None:
    if serving.unix_socket is not None and serving.unix_socket == serving.database.socket:
        raise click.UsageError(
            "--unix-socket names the database's own socket, whose callers need no credential: name "
            "another path."
        )
    has_proxies = serving.trusted_proxies or serving.unix_socket
    if serving.certificate_header is not None and not has_proxies:
        raise click.UsageError(
            "--certificate-header needs --trusted-proxies or --unix-socket: the header is accepted "
            "from nobody else."
        )


def _check_demo(hosts: Sequence[str], seed_api: str | None, *, is_public: bool) -> None:
    if seed_api is not None:
        raise click.UsageError(
            "--demo and --seed-api exclude each other: --demo serves the three plain routes for "
            "its own project."
        )
    reachable = [host for host in hosts if not _is_loopback(host)]
    if not is_public and reachable:
        raise click.UsageError(
            f"The demo was not started: other machines can reach {reachable[0]}, and the demo's "
            "password is public. Leave --host at 127.0.0.1, or add --demo-public if anybody may "
            "use the demo."
        )


def _is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches the address. A name other than localhost may
    resolve to any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == LOCALHOST


@contextlib.contextmanager
def _started(serving: config.Serving) -> Iterator[list[socket.socket]]:
    """Binds the server's sockets, and finds what else would keep it from starting, before anything
    is changed."""
    opening = collector.imported("firmtrail.cli.opening")
    with opening.listening(serving) as bound:
        if serving.tls is not None:
            opening.check_tls(serving.tls)
        opening.note_new(serving.database)
        yield bound


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> config.Tls | None:
    if certificate is not None and key is not None:
        return config.Tls(certificate=certificate, key=key, client_ca=client_ca)
    if certificate is not None or key is not None:
        raise click.UsageError("--tls-cert and --tls-key belong together: give both or neither.")
    if client_ca is not None:
        raise click.UsageError(
            "--tls-client-ca needs --tls-cert and --tls-key: without TLS, no client presents a "
            "certificate. A proxy that ends TLS passes it on in --certificate-header."
        )
    return None


def _oidc(
    issuer: str | None, client_id: str | None, secret_file: Path | None
) -> config.Oidc | None:
    if issuer is None and client_id is None and secret_file is None:
        return None
    if issuer is None or client_id is None or secret_file is None:
        raise click.UsageError(
            "--oidc-issuer, --oidc-client-id and --oidc-client-secret-file belong together: give "
            "all of them or none."
        )
    url = urlsplit(issuer)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.hostname or "")):
        raise click.UsageError("--oidc-issuer has to be an https address.")
    secret = secret_file.read_text().strip()
    if not secret:
        raise click.UsageError(f"The file {secret_file} is empty: it has to hold the secret.")
    return config.Oidc(issuer=issuer, client_id=client_id, client_secret=secret)


def _check_publishing(serving: config.Serving) -> None:
    """Refuses a Postgres without a key, unless --no-publishing is given."""
    database, is_off = serving.database, serving.no_publishing
    if is_off and database.has_one_writer:
        raise click.UsageError("--no-publishing is for a Postgres: an embedded database has a key.")
    if is_off and database.key is not None:
        raise click.UsageError("--no-publishing and --signing-key-file exclude each other.")
    if not is_off and database.key is None:
        raise CouldNotRun(
            f"{database} is not served without a signing key: a restored backup would give out "
            "positions a second time, and nobody would notice. Give --signing-key-file and "
            "--checkpoints (see docs/checkpoints.md, Checkpoints and their key), or "
            "--no-publishing."
        )


@contextlib.contextmanager
def _shared_folder() -> Iterator[Path]:
    """Makes a temporary folder that is deleted when this process ends.

    A worker is a fork of this process and leaves through this same block, so only the process that
    made the folder deletes it.
    """
    folder, creator = Path(tempfile.mkdtemp(prefix="firmtrail-metrics-")), os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == creator:
            shutil.rmtree(folder, ignore_errors=True)
