"""An erased text or person is in no table, no file, no stored answer and no replayed answer."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from firmtrail.access import people
from firmtrail.commands import once
from firmtrail.commands.erase_user import erase_user
from firmtrail.commands.once import KEPT_MS
from firmtrail.database.database import Database
from firmtrail.database.sqlite import SQLite
from firmtrail.events.entry import TYPES
from tests.databases import read, write
from tests.people import add_member
from tests.service.site import D, P, Site
from tests.serving import Answer

CANARY = "zq84-canary"
EMAIL = "zq84.canary@example.org"
PASSWORD = "zq84 password"

SQLITE_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name LIMIT 500"
POSTGRES_TABLES = """\
SELECT CAST(tablename AS text)
FROM pg_tables
WHERE schemaname = 'public'
ORDER BY 1
LIMIT 500"""


class Sender:
    """Sends each request with an Idempotency-Key of its own, and can send all of them again."""

    def __init__(self, site: Site, caller: str = "admin") -> None:
        self._site = site
        self._caller = caller
        self._sent: list[tuple[str, dict[str, Any], str]] = []

    async def post(self, path: str, body: dict[str, Any], *, status: int = 201) -> Any:
        key = f"key-{self._caller.replace(' ', '-')}-{len(self._sent)}"
        self._sent.append((path, body, key))
        answer = await self._send(path, body, key)
        assert answer.status == status, answer.body
        return answer.json

    async def _send(self, path: str, body: dict[str, Any], key: str) -> Answer:
        headers = {"Idempotency-Key": key}
        return await self._site.call("POST", path, caller=self._caller, json=body, headers=headers)

    async def replayed(self) -> list[Answer]:
        return [await self._send(*each) for each in self._sent]


async def everything(db: Database) -> dict[str, str]:
    """Returns all rows of every table, as text."""
    text = SQLITE_TABLES if isinstance(db, SQLite) else POSTGRES_TABLES
    tables = [name for [name] in await read(db, text)]
    assert len(tables) > 20
    return {name: repr(await read(db, f"SELECT * FROM {name} LIMIT 100000")) for name in tables}


async def holding(db: Database, canary: str) -> list[str]:
    """Returns the tables, and the files of an embedded database, that contain the text; upper and
    lower case count as equal.
    """
    found = [name for name, text in (await everything(db)).items() if canary in text.lower()]
    if isinstance(db, SQLite):
        files = db._path.parent.glob(f"{db._path.name}*")
        found += [each.name for each in files if _holds(each, canary)]
    return found


def _holds(path: Path, canary: str) -> bool:
    return path.is_file() and canary.encode() in path.read_bytes().lower()


async def texts_of_every_kind(site: Site, sender: Sender) -> set[str]:
    """Records a text of each kind; returns the names of the events that have a text."""
    report = {"version": "1.0.0", "status": "failed", "detail": f"{CANARY} detail"}
    assert (await site.report(report)).status == 201
    for number in range(3):
        version = {"model": "m", "version": f"1.{number}.0"}
        await sender.post(f"{P}/releases", version | {"notes": f"{CANARY} notes {number}"})
    rollout = await sender.post(f"{P}/rollouts", {"model": "m", "version": "1.1.0", "percent": 10})
    at = f"{P}/rollouts/{rollout['id']}"
    for command in ("pause", "resume", "pause", "abort"):
        await sender.post(f"{at}/{command}", {"reason": f"{CANARY} {command}"}, status=200)
    for command in ("halt", "resume"):
        await sender.post(f"{P}/{command}", {"reason": f"{CANARY} all {command}"}, status=200)
    at = f"{P}/releases/m/1.0.0/withdraw"
    await sender.post(at, {"reason": f"{CANARY} withdrawn"}, status=200)
    bad = {"bad_version": "1.2.0", "model": "m", "to": "1.1.0", "reason": f"{CANARY} back"}
    await sender.post(f"{P}/rollbacks", bad)
    await sender.post(at, {"reason": f"{CANARY} withdrawn again"}, status=409)
    rows = await read(
        site.services.db,
        "SELECT entry FROM events JOIN texts ON texts.log_id = events.log_id "
        "AND texts.position = events.position",
    )
    return {name for [entry] in rows for name in TYPES if f".{name}." in entry}


async def erase_texts(site: Site) -> None:
    rows = await read(site.services.db, "SELECT position FROM texts ORDER BY position LIMIT 500")
    for [position] in rows:
        erased = await site.call("DELETE", f"{P}/events/{position}/text", caller="admin")
        assert erased.status == 204


async def test_no_erased_text_of_any_kind_is_left_anywhere(site: Site) -> None:
    sender, db = Sender(site), site.services.db
    await site.call("PATCH", D, caller="admin", json={"model": "m"})
    recorded = await texts_of_every_kind(site, sender)
    withheld = {"UpdateFailed", "ReleaseAdded", "ReleaseWithdrawn", "RollbackStarted", "Halted"}
    assert recorded >= withheld | {"RolloutPaused", "RolloutResumed", "RolloutAborted", "Resumed"}
    first = [answer.body for answer in await sender.replayed()]
    assert sum(CANARY.encode() in body for body in first) >= 7
    assert set(await holding(db, CANARY)) >= {"texts", "idempotency_keys"}
    await erase_texts(site)
    assert await holding(db, CANARY) == []
    before = await read(db, "SELECT size FROM log_heads WHERE log_id = $1", site.log_id)
    for answer in await sender.replayed():
        assert CANARY.encode() not in answer.body
    assert await read(db, "SELECT size FROM log_heads WHERE log_id = $1", site.log_id) == before
    for path in ("/releases", "/rollouts", "/devices/d1/history?progress=true", "/events"):
        assert CANARY.encode() not in (await site.get(f"{P}{path}")).body


async def test_only_stored_answers_that_show_an_erased_text_are_emptied(site: Site) -> None:
    sender, db = Sender(site), site.services.db
    for version, notes in (("1.0.0", CANARY), ("2.0.0", "m")):
        await sender.post(f"{P}/releases", {"model": "m", "version": version, "notes": notes})
    [[position]] = await read(db, "SELECT position FROM texts WHERE text = $1", CANARY)
    await site.call("DELETE", f"{P}/events/{position}/text", caller="admin")
    erased, other = await sender.replayed()
    assert (erased.status, erased.json["code"]) == (409, "key_reused")
    assert (other.status, other.json["notes"]) == (201, "m")
    [[position]] = await read(db, "SELECT position FROM texts WHERE text = 'm'")
    await sender.post(f"{P}/releases", {"model": "m", "version": "3.0.0"})
    await site.call("DELETE", f"{P}/events/{position}/text", caller="admin")
    assert [each.status for each in await sender.replayed()] == [409, 409, 201]


@pytest.fixture
async def person(site: Site) -> Site:
    """Adds a person whose address will be in every place that can contain it."""
    services = site.services
    hashed = await services.access.hasher.hash("user", PASSWORD)
    await add_member(services.recorder, site.log_id, EMAIL, "operator", password_hash=hashed)
    return site


async def act_as_person(site: Site) -> None:
    body, headers = {"email": EMAIL.upper(), "password": PASSWORD}, {"Idempotency-Key": "zq84-own"}
    login = await site.call("POST", "/api/v1/login", json=body, headers=headers)
    site.credentials["person"] = login.json["token"]
    own = Sender(site, "person")
    await own.post("/api/v1/tokens", {"project": "acme", "name": f"of {EMAIL}"})
    await site.get(f"{P}/releases", "person", Accept="application/x-ndjson")


def request_digests(email: str) -> list[str]:
    """Returns the stored digests of requests that contain an address, and so could reveal it."""
    requests = [f"POST /api/v1/login\n{email}"]
    requests += [
        f'POST {P}/members\n{{"email":"{email}","role":"{role}"}}'
        for role in ("viewer", "operator", "admin")
    ]
    return [sha256(each.encode()).hexdigest() for each in requests]


async def test_nothing_of_an_erased_person_is_left_anywhere(person: Site) -> None:
    services, db, sender = person.services, person.services.db, Sender(person)
    await act_as_person(person)
    members = f"{P}/members"
    await sender.post(members, {"email": EMAIL, "role": "admin"}, status=200)
    await sender.post(members, {"email": EMAIL, "role": "viewer"}, status=200)
    await sender.post(members, {"email": "new@example.org", "role": "viewer"})
    assert set(await holding(db, "zq84")) >= {"users", "tokens", "idempotency_keys"}
    kept = (await everything(db))["idempotency_keys"]
    assert sum(each in kept for each in request_digests(EMAIL)) == 3
    user = await people.by_email(db, EMAIL)
    assert user is not None
    await erase_user(db, services.recorder, user.actor_id, actor="system")
    assert await holding(db, "zq84") == []
    kept = (await everything(db))["idempotency_keys"]
    assert [each for each in request_digests(EMAIL) if each in kept] == []
    again = await sender.replayed()
    assert [each.status for each in again] == [409, 409, 201]
    assert all(b"zq84" not in each.body for each in again)
    assert await people.by_email(db, EMAIL) is None
    assert (await person.get(P, "person")).status == 401


async def test_a_refusal_that_names_an_erased_person_is_emptied_too(site: Site) -> None:
    sender, db = Sender(site), site.services.db
    email = "admin@example.org"
    await sender.post(f"{P}/members", {"email": email, "role": "viewer"}, status=409)
    assert request_digests(email)[1] in (await everything(db))["idempotency_keys"]
    await add_member(site.services.recorder, site.log_id, "second@example.org", "admin")
    user = await people.by_email(db, email)
    assert user is not None
    await erase_user(db, site.services.recorder, user.actor_id, actor="system")
    assert await holding(db, email) == []
    assert request_digests(email)[1] not in (await everything(db))["idempotency_keys"]


async def test_expired_answers_are_deleted_without_another_use_of_a_key(site: Site) -> None:
    sender, db = Sender(site), site.services.db
    for number in range(3):
        await sender.post(f"{P}/releases", {"model": "m", "version": f"1.{number}.0"})
    await write(db, "UPDATE idempotency_keys SET expires_at_ms = expires_at_ms - $1", KEPT_MS)
    await once.purge(db)
    assert await read(db, "SELECT key FROM idempotency_keys LIMIT 9") == []
    assert "keys" in site.services.readiness.tasks
