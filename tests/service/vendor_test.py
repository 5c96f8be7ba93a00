"""What we serve of others is what they published."""

import tomllib
from hashlib import sha512
from importlib import resources

import pytest

STATIC = resources.files("firmtrail.http") / "static"
PACKAGES = tomllib.loads((STATIC / "vendor.toml").read_text())["package"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_every_file_is_named_with_its_digest(package: dict[str, object]) -> None:
    folder = STATIC / str(package["folder"])
    found = {file.name: sha512(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert found == package["sha512"]
    assert "LICENSE" in found
