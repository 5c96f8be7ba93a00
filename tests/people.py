"""Makes projects, people and their credentials for tests, in the same way as the service."""

from firmtrail.access import sessions
from firmtrail.access.credentials import new_secret, new_session
from firmtrail.access.device_secrets import insert_secrets, seal
from firmtrail.access.hashing import Hasher
from firmtrail.access.lookup import Access
from firmtrail.access.roles import EVERYTHING, Role
from firmtrail.commands import access as commands
from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Event
from firmtrail.eventstore import log
from firmtrail.recording.recorder import Recorder

CHEAP = {"user": 4, "device": 4}
"""bcrypt's cost in tests that are not about hashing."""


def new_access(db: Database, **options: object) -> Access:
    return Access(db, Hasher(CHEAP), **options)  # type: ignore[arg-type] # Access checks them


async def add_project(db: Database, access: Access, project: str, *, above: int = 0) -> int:
    """Creates a project without members; returns its log."""
    await commands.add_project(db, project, actor="system", creator=None, above=above)
    log_id = await access.project(project)
    assert log_id is not None
    return log_id


async def add_member(
    recorder: Recorder, log_id: int, email: str, role: Role, *, password_hash: str | None = None
) -> str:
    """Makes a user a member; returns the user's id."""
    set_member = commands.set_member(email, role, actor="system", password_hash=password_hash)
    return (await recorder.act(log_id, set_member)).member.actor_id


async def issue_token(
    recorder: Recorder, log_id: int, holder: str, role: Role, *, expires_at_ms: int | None = None
) -> commands.NewToken:
    wanted = commands.TokenRequest(holder, "for a test", role, expires_at_ms)
    return await recorder.act(log_id, commands.issue_token(wanted, EVERYTHING, actor="system"))


async def begin_session(db: Database, access: Access, actor_id: str) -> str:
    """Begins a session of this person in a browser; returns the text of its cookie."""
    text = new_session()
    async with db.transaction() as tx:
        await tx.run(sessions.begin(actor_id, text, access.now_ms()))
    return text


async def add_secret(
    db: Database, access: Access, project: str, device: str, *, text: str | None = None
) -> str:
    """Gives a device the secret `text`, or a new one; returns the secret."""
    secret = text or new_secret()
    rows = await seal(access.hasher, [(device, secret)])
    async with db.transaction() as tx:
        await tx.run(insert_secrets(project, rows, access.now_ms()))
    return secret


async def recorded(db: Database, log_id: int) -> list[tuple[str, Event]]:
    """Returns the whole log, as (stream, event)."""
    size = (await log.head(db, log_id)).size
    pages = [page async for page in log.read(db, log_id, 0, size)]
    entries = [decode(position, text) for page in pages for position, _, text in page]
    return [(entry.stream, entry.event) for entry in entries]
