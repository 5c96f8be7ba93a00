"""A device of Mender joins or comes back while the views are only prepared for this version."""

import pytest
from limits import RateLimitItemPerMinute

from firmtrail.access import registrations
from firmtrail.database.database import Database
from firmtrail.projections import fold
from tests.service.enrolling import set_enrolment
from tests.service.mender import device, joined
from tests.service.mender_device import MenderDevice
from tests.service.preparing import prepare, revisions

__all__ = ["device"]


async def test_a_new_device_is_admitted_although_the_views_are_only_prepared(
    device: MenderDevice, db: Database
) -> None:
    await prepare(device.site, db)
    assert (await device.authenticate()).status == 200
    assert await revisions(db, device.site.log_id) == fold.REVISIONS


@pytest.mark.parametrize("tenant", ["token", "acme", ""])
async def test_a_known_key_as_the_first_request_makes_prepared_views_live(
    device: MenderDevice, db: Database, tenant: str
) -> None:
    await joined(device)
    await prepare(device.site, db)
    device.tenant = device.tenant if tenant == "token" else tenant
    await joined(device)
    assert await revisions(db, device.site.log_id) == fold.REVISIONS


async def test_a_stranger_past_the_limit_takes_no_project_over(
    device: MenderDevice, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = device.site
    await set_enrolment(site, "approve")
    await prepare(site, db)
    before, stranger = await revisions(db, site.log_id), MenderDevice(site, "acme", "new")
    with monkeypatch.context() as limited:
        limited.setattr(registrations, "PER_NETWORK", RateLimitItemPerMinute(0))
        assert (await stranger.authenticate()).status == 429
    assert await revisions(db, site.log_id) == before != fold.REVISIONS
    assert (await stranger.authenticate()).status == 401
    assert await revisions(db, site.log_id) == fold.REVISIONS
