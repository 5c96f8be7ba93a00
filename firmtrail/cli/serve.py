"""`firmtrail serve`: reads how to serve, and starts one process or several."""

import contextlib
import ipaddress
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click

from firmtrail import config, environment
from firmtrail.cli.numbers import Number, Whole
from firmtrail.cli.settings import NETWORKS, PLACE, artifacts_option, one_place
from firmtrail.exits import CouldNotRun

DEMO_PROJECT = "demo"
LOCALHOST = "localhost"


_pem_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option(
    "--port", default=8080, type=Whole(0, 65535), help="The port to listen on; 0 takes a free one."
)
@click.option(
    "--workers",
    default=1,
    type=Whole(1, 64),
    help="How many processes serve; more than one needs Postgres.",
)
@click.option("--demo", is_flag=True, help="Serve a demo project and the three plain routes.")
@click.option(
    "--seed-api", metavar="PROJECT", help="Serve the three plain routes for this project."
)
@click.option(
    "--demo-public",
    is_flag=True,
    help="Let --demo listen on an address that other machines reach. Its password is public.",
)
@click.option("--tls-cert", type=_pem_file, help="The certificate chain, as a PEM file.")
@click.option("--tls-key", type=_pem_file, help="Its key, as a PEM file.")
@click.option("--signing-key-file", type=_pem_file, help="The same as before the command.")
@click.option(
    "--checkpoints-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The same as before the command.",
)
@click.option("--checkpoints", type=PLACE, help="As before the command.")
@click.option(
    "--no-publishing",
    is_flag=True,
    help="Serve a Postgres without a signing key: no checkpoints, and a database that was rolled "
    "back gives out positions a second time without anybody noticing.",
)
@click.option(
    "--drain-delay",
    "drain_delay_s",
    default=0.0,
    type=Number(min=0, max=3600),
    help="Seconds after SIGTERM in which requests are still taken while /readyz says 503, so that "
    "a load balancer notices. A second signal ends them.",
)
@click.option(
    "--write-timeout",
    "write_timeout_s",
    default=config.WRITE_TIMEOUT_S,
    type=Number(min=0.1, max=3600),
    help="Seconds in which a client must read, or send, 256 KiB of what is streamed.",
)
@click.option(
    "--streams-max",
    default=config.STREAMS_MAX,
    type=Whole(1, 100_000),
    help="How many clients may follow logs, in each process.",
)
@click.option(
    "--trusted-proxies",
    type=NETWORKS,
    default=(),
    show_default=False,
    help="Networks of the proxies in front of this server, apart by commas. From these alone the "
    "headers X-Forwarded-For, -Proto, -Host, -Prefix and Forwarded are taken.",
)
@click.option(
    "--connections-max",
    type=Whole(min=1),
    help="How many client connections each process has at most. Without it, as many as the limit "
    "of file descriptors allows with a reserve, up to 10 000.",
)
@click.option(
    "--connections-per-address",
    "connections_per_address_max",
    type=Whole(min=1),
    help="How many of them one client address has at most, an IPv6 /64 counting as one address; a "
    "trusted proxy is not limited. Without it, a quarter.",
)
@click.option(
    "--projects",
    default="operator",
    type=click.Choice(["operator", "open"]),
    help="Who may create projects: only the operator, with `firmtrail project add`, or everybody "
    "who has a login.",
)
@click.option(
    "--long-poll-max",
    "long_poll_s_max",
    default=config.LONG_POLL_S_MAX,
    type=Number(min=0, max=60),
    help="Seconds after which a request with wait= is answered, whatever it asked for; less than "
    "the time limit of every proxy on the way.",
)
@artifacts_option
@click.option(
    "--artifact-bytes-max",
    default=config.ARTIFACT_BYTES_MAX,
    type=Whole(min=1),
    help="The largest artifact that is accepted, in bytes.",
)
@click.option("--instance", default="firmtrail", help="The name of this installation.")
@click.pass_obj
def serve(
    database: config.Database,
    /,
    *,
    demo: bool,
    demo_public: bool,
    seed_api: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    signing_key_file: Path | None,
    checkpoints_file: Path | None,
    checkpoints: config.Place | None,
    **options: object,
) -> None:
    """Serve the API until SIGTERM or SIGINT.

    An embedded database is created and migrated, and only this process may write to it. A Postgres
    needs `firmtrail migrate` before.
    """
    if demo and seed_api is not None:
        raise click.UsageError(
            "--demo and --seed-api exclude each other: --demo serves the three plain routes for "
            "its own project."
        )
    if demo and not demo_public and not _is_loopback(str(options["host"])):
        raise click.UsageError(
            f"The demo was not started: other machines can reach {options['host']}, and the demo's "
            "password is public. Leave --host at 127.0.0.1, or add --demo-public if anybody may "
            "use the demo."
        )
    tls = _tls(tls_cert, tls_key)
    serving = config.Serving(
        database=config.signed(
            database, signing_key_file, one_place(checkpoints_file, checkpoints)
        ),
        seed_project=DEMO_PROJECT if demo else seed_api,
        is_demo=demo,
        tls=tls,
        **options,  # type: ignore[arg-type] # click has converted them
    )
    if serving.workers > 1 and isinstance(database, config.Embedded):
        raise click.UsageError("An embedded database is served by one process: --workers 1.")
    _check_publishing(serving)
    _check(serving)
    if serving.workers == 1:
        import_module("firmtrail.cli.server").serve(serving)
    else:
        _serve_by_workers(serving)


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; a name other than localhost may mean any."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == LOCALHOST


def _check(serving: config.Serving) -> None:
    """Find what would keep the server from starting, while nothing is changed yet."""
    opening = import_module("firmtrail.cli.opening")
    opening.check_address(serving.host, serving.port)
    if serving.tls is not None:
        opening.check_tls(serving.tls)
    opening.note_new(serving.database)


def _tls(certificate: Path | None, key: Path | None) -> config.Tls | None:
    if certificate is not None and key is not None:
        return config.Tls(certificate=certificate, key=key)
    if certificate is not None or key is not None:
        raise click.UsageError("--tls-cert and --tls-key belong together: give both or neither.")
    return None


def _check_publishing(serving: config.Serving) -> None:
    """A Postgres without a key is served only where that is said."""
    database, is_off = serving.database, serving.no_publishing
    if is_off and isinstance(database, config.Embedded):
        raise click.UsageError("--no-publishing is for a Postgres: an embedded database has a key.")
    if is_off and database.key_file is not None:
        raise click.UsageError("--no-publishing and --signing-key-file contradict each other.")
    if not is_off and database.key_file is None and isinstance(database, config.Cluster):
        raise CouldNotRun(
            f"{database} is not served without a signing key: a restored backup would give out "
            "positions a second time, and nobody would notice. Give --signing-key-file and "
            "--checkpoints (see docs/operations.md, Checkpoints and their key), or say "
            "--no-publishing."
        )


def _serve_by_workers(serving: config.Serving) -> None:
    with _shared_folder() as folder:
        environment.share_metrics(str(folder))
        import_module("firmtrail.cli.workers").serve(replace(serving, metrics_folder=folder))


@contextlib.contextmanager
def _shared_folder() -> Iterator[Path]:
    """A temporary folder that ends with this process.

    A worker is a fork of it and leaves through this very block: only the process that made the
    folder deletes it.
    """
    folder, creator = Path(tempfile.mkdtemp(prefix="firmtrail-metrics-")), os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == creator:
            shutil.rmtree(folder, ignore_errors=True)
