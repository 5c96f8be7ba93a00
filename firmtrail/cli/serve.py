"""`firmtrail serve`: reads how to serve, and starts one process or several."""

import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, override

import click

from firmtrail import config, main
from firmtrail.cli.numbers import Number, Whole

DEMO_PROJECT = "demo"


class ArtifactPlace(click.ParamType[config.ArtifactPlace]):
    name = "place"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> config.ArtifactPlace:
        try:
            return config.artifact_place(value)
        except config.BadSetting as error:
            self.fail(str(error), param, ctx)


artifacts_option = click.option(
    "--artifacts",
    type=ArtifactPlace(),
    envvar="FIRMTRAIL_SERVE_ARTIFACTS",
    help="Where artifacts are kept: a folder or s3://BUCKET/PREFIX. Without it, in FILE.artifacts "
    "next to an embedded database.",
)
"""A command that serves in its own process takes the server's variable too."""

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
@click.option("--tls-cert", type=_pem_file, help="The certificate chain, as a PEM file.")
@click.option("--tls-key", type=_pem_file, help="Its key, as a PEM file.")
@click.option("--signing-key-file", type=_pem_file, help="The same as before the command.")
@click.option(
    "--checkpoints-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The same as before the command.",
)
@click.option(
    "--write-timeout",
    "write_timeout_s",
    default=config.WRITE_TIMEOUT_S,
    type=Number(min=0.1, max=3600),
    help="Seconds in which a client must read something of what is streamed to it.",
)
@click.option(
    "--streams-max",
    default=config.STREAMS_MAX,
    type=Whole(1, 100_000),
    help="How many clients may follow logs, in each process.",
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
    seed_api: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    signing_key_file: Path | None,
    checkpoints_file: Path | None,
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
    tls = _tls(tls_cert, tls_key)
    serving = config.Serving(
        database=config.signed(database, signing_key_file, checkpoints_file),
        seed_project=DEMO_PROJECT if demo else seed_api,
        is_demo=demo,
        tls=tls,
        **options,  # type: ignore[arg-type] # click has converted them
    )
    if serving.workers > 1 and isinstance(database, config.Embedded):
        raise click.UsageError("An embedded database is served by one process: --workers 1.")
    _check(serving)
    if serving.workers == 1:
        import_module("firmtrail.cli.server").serve(serving)
    else:
        _serve_by_workers(serving)


def _check(serving: config.Serving) -> None:
    """Find what would keep the server from starting, while nothing is changed yet."""
    opening = import_module("firmtrail.cli.opening")
    opening.check_address(serving.host, serving.port)
    if serving.tls is not None:
        opening.check_tls(serving.tls)
    main.note_new(serving.database)


def _tls(certificate: Path | None, key: Path | None) -> config.Tls | None:
    if certificate is not None and key is not None:
        return config.Tls(certificate=certificate, key=key)
    if certificate is not None or key is not None:
        raise click.UsageError("--tls-cert and --tls-key belong together: give both or neither.")
    return None


def _serve_by_workers(serving: config.Serving) -> None:
    with tempfile.TemporaryDirectory(prefix="firmtrail-metrics-") as folder:
        main.share_metrics(folder)
        import_module("firmtrail.cli.workers").serve(replace(serving, metrics_folder=Path(folder)))
