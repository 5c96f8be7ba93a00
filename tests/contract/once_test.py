"""Tests that a key has one answer, kept with the events but without members shown once."""

import asyncio
from collections.abc import Awaitable

import msgspec
import pytest

from firmtrail.access import people
from firmtrail.access.lookup import Access
from firmtrail.commands import access as commands
from firmtrail.commands.once import KEPT_MS, CommandAnswer, IdempotencyKey, answering, once
from firmtrail.database.database import Database, Unavailable
from firmtrail.events.access import MemberAdded
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import Refused
from tests.databases import read, write
from tests.people import add_project, recorded

KEY = IdempotencyKey("u_1", "key-1", "print-1")


class Shown(msgspec.Struct):
    name: str
    secret: str
    more: list[dict[str, str]]


@pytest.fixture
async def acme(db: Database, access: Access) -> int:
    return await add_project(db, access, "acme")


class Doing:
    """Counts how often the command was done."""

    def __init__(self, body: object = None) -> None:
        self.times = 0
        self.body = body

    async def __call__(self, _: Commit) -> object:
        self.times += 1
        return self.body


async def test_without_a_key_a_command_is_done_each_time(recorder: Recorder, acme: int) -> None:
    doing = Doing()
    for _ in range(2):
        await once(recorder, acme, None, answering(201, doing))
    assert doing.times == 2


async def test_a_repeated_request_gets_the_first_answer_without_its_secrets(
    db: Database, recorder: Recorder, acme: int
) -> None:
    doing = Doing(Shown("d1", "fts_1", [{"token": "ftt_2", "id": "t_2"}]))
    command = answering(201, doing)
    assert await once(recorder, acme, KEY, command) == CommandAnswer(201, doing.body)
    again = {"name": "d1", "secret": None, "more": [{"token": None, "id": "t_2"}]}
    assert await once(recorder, acme, KEY, command) == CommandAnswer(201, again)
    assert doing.times == 1
    [[answer]] = await read(db, "SELECT answer FROM idempotency_keys LIMIT 2")
    assert "fts_" not in answer
    assert "ftt_" not in answer


async def test_another_request_under_the_same_key_is_refused(recorder: Recorder, acme: int) -> None:
    await once(recorder, acme, KEY, answering(201, Doing()))
    doing = Doing()
    with pytest.raises(Refused) as refused:
        await once(recorder, acme, KEY._replace(fingerprint="print-2"), answering(201, doing))
    assert (refused.value.code, refused.value.status, doing.times) == ("key_reused", 409, 0)


async def test_keys_of_different_people_do_not_meet(recorder: Recorder, acme: int) -> None:
    doing = Doing()
    for actor_id in ("u_1", "u_2"):
        await once(recorder, acme, KEY._replace(actor_id=actor_id), answering(201, doing))
    assert doing.times == 2


class Refusing:
    """Writes, and is then refused until `yields`."""

    def __init__(self) -> None:
        self.yields = False

    async def __call__(self, commit: Commit) -> object:
        await commit.run(people.set_role("acme", "u_2", "admin"))
        commit.draft.record("user/u_2", MemberAdded("u_2", "admin"), actor="system")
        if not self.yields:
            raise Refused("not_now", "Not now.", 404, member="version")
        return None


async def test_a_refusal_is_the_first_answer_too_and_keeps_nothing_else(
    db: Database, recorder: Recorder, acme: int
) -> None:
    refusing, before = Refusing(), await recorded(db, acme)
    for _ in range(2):
        with pytest.raises(Refused) as raised:
            await once(recorder, acme, KEY, answering(201, refusing))
        refused = raised.value
        assert (refused.code, refused.detail, refused.status, refused.member) == (
            "not_now",
            "Not now.",
            404,
            "version",
        )
        refusing.yields = True
    assert await recorded(db, acme) == before
    assert await people.role_of(db, "acme", "u_2") is None
    await once(recorder, acme, KEY._replace(key="key-2"), answering(201, refusing))
    assert len(await recorded(db, acme)) == len(before) + 1


async def test_a_request_that_failed_has_no_answer_and_is_tried_again(
    recorder: Recorder, acme: int
) -> None:
    doing = Doing("done")

    async def unavailable(_: Commit) -> object:
        raise Unavailable("not now")

    with pytest.raises(Unavailable):
        await once(recorder, acme, KEY, answering(201, unavailable))
    assert await once(recorder, acme, KEY, answering(201, doing)) == CommandAnswer(201, "done")


async def test_concurrent_requests_over_two_servers_are_done_once(
    db: Database, recorder: Recorder, acme: int
) -> None:
    other, doing = Recorder(db), Doing("done")
    answers = await asyncio.gather(
        *(
            once(each, acme, KEY, answering(201, doing))
            for each in (recorder, other, recorder, other)
        )
    )
    assert answers == [CommandAnswer(201, "done")] * 4
    assert doing.times == 1
    await other.close()


async def test_a_project_is_created_once_for_its_key(db: Database, access: Access) -> None:
    answers = await asyncio.gather(
        *(commands.add_project(db, "mine", actor="system", creator=None, key=KEY) for _ in range(4))
    )
    assert {answer.status for answer in answers} == {201}
    log_id = await access.project("mine")
    assert log_id is not None
    assert len(await recorded(db, log_id)) == 1


async def test_of_concurrent_requests_under_one_key_only_one_is_done(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    other_log_id = await add_project(db, access, "other")
    doing = Doing("done")

    def create(name: str) -> Awaitable[object]:
        key = KEY._replace(key="of-a-project", fingerprint=name)
        return commands.add_project(db, name, actor="system", creator=None, key=key)

    def act(log_id: int) -> Awaitable[object]:
        key = KEY._replace(fingerprint=str(log_id))
        return once(recorder, log_id, key, answering(201, doing))

    for requests in (
        [create(name) for name in ("n1", "n2", "acme")],
        [act(log_id) for log_id in (acme, other_log_id)],
    ):
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        refused = [each.code for each in outcomes if isinstance(each, Refused)]
        assert refused.count("key_reused") == len(requests) - 1
    assert doing.times == 1


async def test_the_refusal_of_an_existing_project_is_kept_for_its_key(
    db: Database, acme: int
) -> None:
    for _ in range(2):
        with pytest.raises(Refused) as raised:
            await commands.add_project(db, "acme", actor="system", creator=None, key=KEY)
        assert raised.value.code == "project_exists"
    assert len(await read(db, "SELECT key FROM idempotency_keys LIMIT 9")) == 1


async def test_after_seven_days_a_key_is_forgotten(
    db: Database, recorder: Recorder, acme: int
) -> None:
    doing = Doing()
    await once(recorder, acme, KEY, answering(201, doing))
    await write(db, "UPDATE idempotency_keys SET expires_at_ms = expires_at_ms - $1", KEPT_MS)
    await once(recorder, acme, KEY._replace(key="key-2"), answering(201, doing))
    rows = await read(db, "SELECT key FROM idempotency_keys LIMIT 9")
    assert [key for [key] in rows] == ["key-2"]
    await once(recorder, acme, KEY._replace(fingerprint="other"), answering(201, doing))
    assert doing.times == 3
