"""Builds the image of the Containerfile, and serves with it by docker or podman, without rights.

Apart from the suite, as `make check-image`, which `.ci/run` does where docker or podman works.
Where docker.io is out of reach, FIRMTRAIL_TEST_PYTHON_IMAGE names another image with Python, whose
size is then not counted. FIRMTRAIL_TEST_BUILD_OPTIONS has options of the build: `--network host`.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.end_to_end.asking import ask

ROOT = Path(__file__).parents[2]
TAG = "firmtrail:test"
URL = "http://127.0.0.1:18080"
IMAGE_BYTES_MAX = 200 * 1024**2
OWN_BYTES_MAX = 155 * 1024**2
"""The size that is left for what the Containerfile adds: python:3.13-alpine has 45 MB."""
PYTHON_IMAGE = os.environ.get("FIRMTRAIL_TEST_PYTHON_IMAGE")
CONFINED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")  # noqa: S108 (in the container)


class Container(NamedTuple):
    """A container that serves, and the program that runs it."""

    builder: str
    id: str

    def run(self, *command: str) -> str:
        """Runs a program in the container, as its user."""
        return output(self.builder, "exec", self.id, *command)

    def fails(self, *command: str) -> bool:
        done = subprocess.run([self.builder, "exec", self.id, *command], check=False)
        return done.returncode != 0


def output(*command: str) -> str:
    return subprocess.check_output(command, text=True).strip()


@pytest.fixture(scope="module")
def builder() -> str:
    """Returns docker or podman: the one that is installed and works, with the image built."""
    for program in filter(None, map(shutil.which, ("docker", "podman"))):
        if subprocess.run([program, "info"], capture_output=True, check=False).returncode == 0:
            build(program)
            return program
    raise AssertionError("neither docker nor podman works here")


def build(builder: str) -> None:
    options = shlex.split(os.environ.get("FIRMTRAIL_TEST_BUILD_OPTIONS", ""))
    if builder.endswith("podman"):
        options += ["--format", "docker"]  # OCI's own format has no health check
    if PYTHON_IMAGE:
        options += ["--build-arg", f"PYTHON={PYTHON_IMAGE}"]
    file = ROOT / "deploy" / "Containerfile"
    command = [builder, "build", *options, "--file", str(file), "--tag", TAG, str(ROOT)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def container(builder: str) -> Iterator[Container]:
    options = ("--detach", *CONFINED, "--publish", "127.0.0.1:18080:8080")
    served = Container(builder, output(builder, "run", *options, TAG))
    try:
        wait_until_ready()
        yield served
    finally:
        subprocess.run([builder, "logs", served.id], check=False)
        subprocess.run([builder, "rm", "--force", "--volumes", served.id], check=True)


def wait_until_ready() -> None:
    for _ in range(120):
        try:
            if ask(f"{URL}/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(1)
    raise AssertionError("the container is not ready")


def inspected(builder: str, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output(builder, "image", "inspect", image))[0]
    return found


def test_the_image_is_small(builder: str) -> None:
    size = inspected(builder, TAG)["Size"]
    if PYTHON_IMAGE:
        assert size - inspected(builder, PYTHON_IMAGE)["Size"] < OWN_BYTES_MAX
    else:
        assert size < IMAGE_BYTES_MAX


def test_the_server_is_a_user_that_writes_only_its_data(container: Container) -> None:
    assert container.run("id", "-u") == "10001"
    assert container.run("id", "-g") == "10001"
    assert "CapEff:\t0000000000000000" in container.run("cat", "/proc/1/status")
    for place in ("/", "/opt/firmtrail", "/etc"):
        assert container.fails("touch", f"{place}/written")
    for place in ("/data", "/tmp"):  # noqa: S108 (in the container)
        container.run("touch", f"{place}/written")


def test_the_health_check_of_the_image_passes(container: Container) -> None:
    image = inspected(container.builder, TAG)
    check = image.get("Healthcheck") or image["Config"]["Healthcheck"]
    kind, *command = check["Test"]
    assert kind == "CMD"
    container.run(*command)


def test_a_report_is_recorded_and_the_audits_pass(container: Container) -> None:
    container.run("firmtrail", "project", "add", "acme")
    add = ("firmtrail", "device", "add", "pump-1", "--project", "acme", "--model", "pump")
    secret = container.run(*add)
    address = f"{URL}/api/v1/projects/acme/devices/pump-1"
    status, answer = ask(f"{address}/reports", secret, {"version": "1.4.0"})
    assert (status, json.loads(answer)["position"]) == (201, 2), answer
    for audit in ("verify", "replay"):
        container.run("firmtrail", "audit", audit, "--project", "acme")
    assert container.fails("firmtrail", "audit", "verify", "--project", "another")


def test_a_server_that_is_stopped_ends_well(container: Container) -> None:
    output(container.builder, "stop", "-t", "40", container.id)  # as in the compose file
    [state] = json.loads(output(container.builder, "inspect", container.id))
    assert state["State"]["ExitCode"] == 0
