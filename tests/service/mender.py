"""Makes devices of Mender join and ask."""

from typing import Any

import pytest

from tests.service.enrolling import let_join
from tests.service.mender_device import (
    MenderDevice,
)
from tests.service.site import P, Site

ONE = f"{P}/devices/one"
BYTES = b"bytes of an image" * 100


@pytest.fixture
async def device(fleet: Site) -> MenderDevice:
    """Returns a device of model m that joins through a token, and releases with artifacts."""
    await let_join(fleet, model="m")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        path = f"{P}/releases/m/{version}/artifacts/image.mender"
        data = BYTES + version.encode()
        assert (await fleet.call("PUT", path, caller="operator", data=data)).status == 201
    return MenderDevice(fleet, fleet.credentials["join"])


async def joined(device: MenderDevice) -> MenderDevice:
    answer = await device.authenticate()
    assert answer.status == 200, answer.body
    return device


async def offered(device: MenderDevice) -> dict[str, Any]:
    answer = await device.next()
    assert answer.status == 200, answer.body
    deployment: dict[str, Any] = answer.json
    return deployment
