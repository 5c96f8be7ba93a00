"""What we serve of others is what they published."""

import tomllib
from hashlib import sha512
from importlib import resources
from importlib.resources.abc import Traversable

import pytest

FOLDERS = [resources.files(f"firmtrail.{room}") / "static" for room in ("console", "http")]
PACKAGES = [
    pytest.param(folder / package["folder"], package, id=package["name"])
    for folder in FOLDERS
    for package in tomllib.loads((folder / "vendor.toml").read_text())["package"]
]


@pytest.mark.parametrize(("folder", "package"), PACKAGES)
def test_every_file_is_named_with_its_digest(
    folder: Traversable, package: dict[str, object]
) -> None:
    found = {file.name: sha512(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert found == package["sha512"]
    assert "LICENSE" in found
