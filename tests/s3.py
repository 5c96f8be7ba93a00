"""Runs an S3 server for tests that honours conditional writes."""

import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

BUCKET = "firmware"
KEY, REGION = "test", "us-east-1"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_session_client(s3_server: str) -> Any:
    """Returns a client, which takes longer to make than all that a test does with it."""
    known = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "region_name": REGION}
    return boto3.client("s3", endpoint_url=s3_server, **known)


@pytest.fixture
def s3_client(s3_server: str, s3_session_client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a client with an empty bucket, and sets the environment for obstore too."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    s3_backends.reset()
    s3_session_client.create_bucket(Bucket=BUCKET)
    return s3_session_client
