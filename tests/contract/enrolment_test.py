"""Devices join, wait, are accepted and rejected: once each, by the rules, on every back end."""

import asyncio

import pytest

from firmtrail.access.lookup import NO_DEVICE, OWN_DEVICE, Access
from firmtrail.access.roles import EVERYTHING, PERMISSIONS
from firmtrail.commands import access as access_commands
from firmtrail.commands import enrolment
from firmtrail.commands.devices import never_seen
from firmtrail.commands.enrolment import Joiner, key_digest
from firmtrail.database.database import Database
from firmtrail.events.fleet import (
    DeviceAccepted,
    DeviceDecommissioned,
    DeviceKeyAccepted,
    DeviceKeyOffered,
    DeviceRegistered,
    SettingsChanged,
)
from firmtrail.projections import device_pages
from firmtrail.projections.device_current import Filter
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import Refused
from tests.fleet import report
from tests.people import add_member, add_project, add_secret, recorded

KEY, OTHER, THIRD = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
async def acme(db: Database, access: Access) -> int:
    return await add_project(db, access, "acme")


async def joiner(recorder: Recorder, log_id: int, most: int = 10) -> Joiner:
    """Issues a token that registers devices of model m."""
    holder = await add_member(recorder, log_id, "op@example.org", "operator")
    wanted = access_commands.TokenRequest(holder, "", "gateway", registers_max=most, model="m")
    issued = await recorder.act(
        log_id, access_commands.issue_token(wanted, EVERYTHING, actor="system")
    )
    token_id = issued.token.token_id
    return Joiner(f"gateway/{token_id}", token_id)


async def set_enrolment(recorder: Recorder, log_id: int, value: str) -> None:
    event = SettingsChanged(enrolment=value)  # type: ignore[arg-type] # a text of the test
    await recorder.act(log_id, access_commands.change_settings(event, actor="system"))


async def of_devices(db: Database, log_id: int) -> list[tuple[str, object]]:
    return [each for each in await recorded(db, log_id) if each[0].startswith("device/")]


async def has_key(access: Access, key: str, device: str = "d1") -> bool:
    found = await access.find("x", "acme", device, address="", digest=key_digest(key))
    return found.device_secret == OWN_DEVICE


async def test_a_device_that_a_token_names_is_registered_once(
    db: Database, recorder: Recorder, acme: int
) -> None:
    through = await joiner(recorder, acme)
    join = enrolment.join(["d1", "d2"], through)
    await asyncio.gather(*(recorder.act(acme, join) for _ in range(5)))
    assert await of_devices(db, acme) == [
        ("device/d1", DeviceRegistered("m")),
        ("device/d2", DeviceRegistered("m")),
    ]


async def test_a_token_registers_no_more_devices_than_it_may(
    db: Database, recorder: Recorder, acme: int
) -> None:
    through = await joiner(recorder, acme, most=3)
    joins = [recorder.act(acme, enrolment.join([f"d{n}"], through)) for n in range(8)]
    outcomes = await asyncio.gather(*joins, return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, Refused)]
    assert (len(refused), {each.code for each in refused}) == (5, {"registers_max"})
    assert len(await of_devices(db, acme)) == 3
    with pytest.raises(Refused, match="no more devices"):
        await recorder.act(acme, enrolment.join(["e1", "e2"], through))


async def test_a_revoked_token_registers_nothing(
    db: Database, recorder: Recorder, acme: int
) -> None:
    through = await joiner(recorder, acme)
    revoke = access_commands.revoke_token(str(through.token_id), actor="system")
    await recorder.act(acme, revoke)
    with pytest.raises(Refused):
        await recorder.act(acme, enrolment.join(["d1"], through))
    assert await of_devices(db, acme) == []


async def test_nothing_joins_a_closed_project_on_its_own(
    db: Database, recorder: Recorder, acme: int
) -> None:
    alone = Joiner("device/d1", may_name=False)
    with pytest.raises(Refused, match="without a token"):
        await recorder.act(acme, enrolment.offer_key("d1", KEY, alone))
    await set_enrolment(recorder, acme, "open")
    assert await recorder.act(acme, enrolment.offer_key("d1", KEY, alone))
    assert [type(event) for _, event in await of_devices(db, acme)] == [
        DeviceRegistered,
        DeviceKeyAccepted,
    ]


async def test_a_device_of_a_careful_project_waits_with_its_key(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    await set_enrolment(recorder, acme, "approve")
    through = await joiner(recorder, acme)
    offer = enrolment.offer_key("d1", KEY, through)
    assert not await recorder.act(acme, offer)
    assert not await recorder.act(acme, offer)
    assert not await recorder.act(acme, enrolment.offer_key("d1", OTHER, through))
    assert await of_devices(db, acme) == [
        ("device/d1", DeviceRegistered("m", pending=True)),
        ("device/d1", DeviceKeyOffered(KEY)),
    ]
    assert not await has_key(access, KEY)
    state = await recorder.act(acme, enrolment.accept("d1", key=KEY, actor="user/u"))
    assert (state.pending, state.offered_key) == (False, None)
    assert await has_key(access, KEY)
    with pytest.raises(Refused, match="Neither"):
        await recorder.act(acme, enrolment.accept("d1", actor="user/u"))


async def test_a_registered_device_that_never_called_takes_its_first_key(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    through = await joiner(recorder, acme)
    await recorder.act(acme, enrolment.join(["d1"], through))
    secret = await add_secret(db, access, "acme", "d1")
    await set_enrolment(recorder, acme, "open")
    alone = Joiner("device/d1", may_name=False)
    assert not await recorder.act(acme, enrolment.offer_key("d1", OTHER, alone))
    assert await recorder.act(acme, enrolment.offer_key("d1", KEY, through))
    assert await has_key(access, KEY)
    found = await access.find(secret, "acme", "d1", address="")
    assert found.device_secret == NO_DEVICE, "the first key ends the secret that nobody used"


async def test_a_stranger_offers_no_key_to_a_closed_project(
    db: Database, recorder: Recorder, acme: int
) -> None:
    await recorder.act(acme, enrolment.join(["d1"], await joiner(recorder, acme)))
    alone = Joiner("device/d1", may_name=False)
    with pytest.raises(Refused, match="without a token"):
        await recorder.act(acme, enrolment.offer_key("d1", KEY, alone))
    assert await of_devices(db, acme) == [("device/d1", DeviceRegistered("m"))]


async def test_strangers_join_no_project_that_is_full(
    recorder: Recorder, acme: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "ALONE_MAX", 2)
    await set_enrolment(recorder, acme, "open")
    for name in ("d1", "d2"):
        alone = Joiner(f"device/{name}", may_name=False)
        assert await recorder.act(acme, enrolment.offer_key(name, KEY, alone))
    with pytest.raises(Refused, match="only through a token"):
        await recorder.act(acme, enrolment.offer_key("d3", KEY, alone))
    await recorder.act(acme, enrolment.join(["d3"], await joiner(recorder, acme)))


@pytest.mark.parametrize("accepted_by", ["token", "operator"])
async def test_a_second_key_waits_although_the_device_has_not_called(
    db: Database, access: Access, recorder: Recorder, acme: int, accepted_by: str
) -> None:
    through = await joiner(recorder, acme)
    await set_enrolment(recorder, acme, "approve" if accepted_by == "operator" else "closed")
    accepted = await recorder.act(acme, enrolment.offer_key("d1", KEY, through))
    if not accepted:
        await recorder.act(acme, enrolment.accept("d1", actor="user/u"))
    assert not await recorder.act(acme, enrolment.offer_key("d1", OTHER, through))
    assert (await has_key(access, KEY), await has_key(access, OTHER)) == (True, False)
    await recorder.act(acme, enrolment.accept("d1", key=OTHER, actor="user/u"))
    assert (await has_key(access, KEY), await has_key(access, OTHER)) == (False, True)


async def test_a_key_that_a_device_offered_itself_shows_that_it_has_called(
    recorder: Recorder, acme: int
) -> None:
    through = await joiner(recorder, acme)
    assert await recorder.act(acme, enrolment.offer_key("d1", KEY, through))

    async def unseen(commit: Commit) -> frozenset[str]:
        await commit.devices(["d1"])
        return await never_seen(commit, ["d1"])

    assert await recorder.act(acme, unseen) == frozenset()


@pytest.mark.parametrize("how", ["called", "reported"])
async def test_no_token_takes_the_name_of_a_device_that_has_authenticated(
    db: Database, access: Access, recorder: Recorder, acme: int, how: str
) -> None:
    through = await joiner(recorder, acme)
    await recorder.act(acme, enrolment.join(["d1"], through))
    secret = await add_secret(db, access, "acme", "d1")
    if how == "called":
        await access.seen.first("acme", "d1", 5)
    else:
        await recorder.report(acme, [report()])
    assert not await recorder.act(acme, enrolment.offer_key("d1", KEY, through))
    assert not await has_key(access, KEY)
    assert (await access.find(secret, "acme", "d1", address="")).device_secret == OWN_DEVICE
    state = await recorder.act(acme, enrolment.reject("d1", actor="user/u"))
    assert (state.offered_key, state.decommissioned) == (None, False)
    assert await recorder.act(acme, enrolment.offer_key("d1", OTHER, through)) is False
    with pytest.raises(Refused, match="Another key"):
        await recorder.act(acme, enrolment.accept("d1", key=KEY, actor="user/u"))
    await recorder.act(acme, enrolment.accept("d1", key=OTHER, actor="user/u"))
    assert await has_key(access, OTHER)
    assert (await access.find(secret, "acme", "d1", address="")).device_secret == NO_DEVICE


@pytest.mark.parametrize("setting", ["open", "approve"])
async def test_a_strangers_key_that_waits_gives_way_to_one_through_a_token(
    db: Database, access: Access, recorder: Recorder, acme: int, setting: str
) -> None:
    through, alone = await joiner(recorder, acme), Joiner("device/d1", may_name=False)
    await recorder.act(acme, enrolment.join(["d1"], through))
    await access.seen.first("acme", "d1", 5)
    await set_enrolment(recorder, acme, setting)
    for _ in range(2):  # the second time the event of the stranger's key has its id already
        for joining, key in ((alone, KEY), (through, OTHER), (through, KEY), (alone, THIRD)):
            assert not await recorder.act(acme, enrolment.offer_key("d1", key, joining))
        state = await recorder.act(acme, enrolment.reject("d1", actor="user/u"))
        assert state.offered_key is None
    offered = [event for _, event in await of_devices(db, acme) if type(event) is DeviceKeyOffered]
    assert offered == [DeviceKeyOffered(KEY), DeviceKeyOffered(OTHER)] * 2
    assert not await has_key(access, KEY)


async def test_a_name_that_a_stranger_took_waits_with_the_key_through_a_token(
    recorder: Recorder, access: Access, acme: int
) -> None:
    await set_enrolment(recorder, acme, "approve")
    through, alone = await joiner(recorder, acme), Joiner("device/d1", may_name=False)
    assert not await recorder.act(acme, enrolment.offer_key("d1", KEY, alone))
    assert not await recorder.act(acme, enrolment.offer_key("d1", OTHER, through))
    state = await recorder.act(acme, enrolment.accept("d1", actor="user/u"))
    assert not state.pending
    assert (await has_key(access, KEY), await has_key(access, OTHER)) == (False, True)


async def test_a_rejected_device_is_decommissioned_and_stays_out(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    await set_enrolment(recorder, acme, "approve")
    through = await joiner(recorder, acme)
    await recorder.act(acme, enrolment.offer_key("d1", KEY, through))
    state = await recorder.act(acme, enrolment.reject("d1", actor="user/u"))
    assert (state.pending, state.decommissioned) == (False, True)
    with pytest.raises(Refused, match="decommissioned"):
        await recorder.act(acme, enrolment.offer_key("d1", KEY, through))
    assert [type(event) for _, event in await of_devices(db, acme)] == [
        DeviceRegistered,
        DeviceKeyOffered,
        DeviceDecommissioned,
    ]


async def test_the_devices_that_wait_are_listed(
    db: Database, recorder: Recorder, acme: int
) -> None:
    through = await joiner(recorder, acme)
    await recorder.act(acme, enrolment.join(["d0", "d1"], through))
    await recorder.report(acme, [report(device="d1")])
    await recorder.act(acme, enrolment.offer_key("d1", KEY, through))
    await set_enrolment(recorder, acme, "approve")
    await recorder.act(acme, enrolment.join(["d2"], through))
    for waiting, expected in ((True, ["d1", "d2"]), (False, ["d0"]), (None, ["d0", "d1", "d2"])):
        which = Filter(waiting=waiting)
        found = (await device_pages.page(db, (acme, "acme"), which, after="", limit=9)).devices
        assert [each.state.device for each in found] == expected
        assert await device_pages.count(db, (acme, "acme"), which, 100) == (len(expected), True)


@pytest.mark.parametrize("role", ["viewer", "auditor", "gateway"])
async def test_only_operators_have_tokens_that_register(
    recorder: Recorder, acme: int, role: str
) -> None:
    holder = await add_member(recorder, acme, "a@b.example", role)  # type: ignore[arg-type]
    wanted = access_commands.TokenRequest(holder, "", "gateway", registers_max=1)
    for issuer in (EVERYTHING, PERMISSIONS[role]):
        with pytest.raises(Refused) as refused:
            await recorder.act(acme, access_commands.issue_token(wanted, issuer, actor="system"))
        assert refused.value.status == 403


async def test_the_acceptance_of_a_device_without_a_key_needs_none(
    db: Database, recorder: Recorder, acme: int
) -> None:
    await set_enrolment(recorder, acme, "approve")
    await recorder.act(acme, enrolment.join(["d1"], await joiner(recorder, acme)))
    await recorder.act(acme, enrolment.accept("d1", actor="user/u"))
    assert (await of_devices(db, acme))[1:] == [("device/d1", DeviceAccepted())]
