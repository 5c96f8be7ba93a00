"""Builds the image of the Containerfile and lets it serve, with docker or podman.

Apart from the suite, as `make check-image`, which `.ci/run` does where docker or podman works.
"""

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGE_BYTES_MAX = 200 * 1024**2


def test_the_image_is_small_and_serves() -> None:
    builder = working_builder()
    file = ROOT / "deploy" / "Containerfile"
    build = [builder, "build", "--file", str(file), "--tag", "firmtrail:test"]
    subprocess.run([*build, str(ROOT)], check=True)
    shown = subprocess.check_output([builder, "image", "inspect", "firmtrail:test"])
    assert json.loads(shown)[0]["Size"] < IMAGE_BYTES_MAX
    confined = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")  # noqa: S108 (in the container)
    run = [builder, "run", "--detach", "--rm", *confined, "--publish", "127.0.0.1:18080:8080"]
    container = subprocess.check_output([*run, "firmtrail:test"], text=True).strip()
    try:
        assert is_ready("http://127.0.0.1:18080/readyz")
    finally:
        subprocess.run([builder, "stop", container], check=True)


def working_builder() -> str:
    """Returns docker or podman: the one that is installed and can build."""
    for program in filter(None, map(shutil.which, ("docker", "podman"))):
        if subprocess.run([program, "info"], capture_output=True, check=False).returncode == 0:
            return program
    raise AssertionError("neither docker nor podman works here")


def is_ready(url: str) -> bool:
    for _ in range(60):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (ours)
                return bool(answer.status == 200)
        except OSError:
            time.sleep(1)
    return False
