"""Compares members, tokens, device secrets and webhooks in a database with the project's logs.

Members with their roles, tokens with holder, role, expiry, revocation and issuer, secrets with
their ids, and webhooks with their receivers and what those get must be those of the fold
(`access_fold`). Digests, hashes and the paths of receivers are not compared, because the log does
not contain them. Logins belong to no project, so only the form of a login is checked.
No project may name another project's log, since its own members would then decide about that log.
The database may change meanwhile: the rows and the log's end are read in one snapshot.
"""

from collections.abc import AsyncIterator, Mapping, Sequence

from msgspec import json
from yarl import URL

from firmtrail.audit import rows
from firmtrail.audit.access_fold import TYPES, AccessFold, TokenState, WebhookState
from firmtrail.audit.columns import UNREADABLE
from firmtrail.audit.finding import Findings, ProjectAudit
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.rows import PAGE_ROWS, pages_of_project
from firmtrail.database.database import Reader, Row, Statement
from firmtrail.events.entry import decode, envelope_of
from firmtrail.events.log import LogContinued
from firmtrail.eventstore import log as eventlog
from firmtrail.eventstore import moving

LOGIN_MS_MAX = 7 * 24 * 3600 * 1000
"""The longest life of a login: that of a session of the console. A login of the API lives a day."""
CLOCK_MS_MAX = 24 * 3600 * 1000
"""The most that the clock of the server that made a login may be ahead of the database's clock."""

_MEMBERS = """\
SELECT actor_id, role
FROM audited_members
WHERE project = $1 AND actor_id > $2
ORDER BY actor_id
LIMIT $3"""

_TOKENS = """\
SELECT
    audited_tokens.token_id, audited_tokens.actor_id, audited_tokens.role,
    audited_tokens.expires_at_ms, audited_tokens.revoked_at_ms, audited_tokens.issued_by,
    registrar.registers, registrar.model, registrar.registers_max, registrar.registered
FROM audited_tokens
JOIN audited_registrars AS registrar ON registrar.token_id = audited_tokens.token_id
WHERE audited_tokens.project = $1 AND audited_tokens.token_id > $2
ORDER BY audited_tokens.token_id
LIMIT $3"""

_SECRETS = """\
SELECT device, secret_id, expires_at_ms
FROM audited_secrets
WHERE project = $1 AND device > $2
ORDER BY device
LIMIT $3"""

_SECRETS_OF = """\
SELECT device, secret_id, expires_at_ms
FROM audited_secrets
WHERE project = $1 AND device = $2
ORDER BY secret_id
LIMIT 1000"""

_WEBHOOKS = """\
SELECT webhook_id, target, types, models, notices, enabled
FROM audited_webhooks
WHERE project = $1 AND webhook_id > $2
ORDER BY webhook_id
LIMIT $3"""

_LOGINS = """\
SELECT audited_tokens.token_id, audited_tokens.role, audited_tokens.created_at_ms,
    audited_tokens.expires_at_ms, audited_tokens.issued_by, now_ms()
FROM audited_members
JOIN audited_tokens ON audited_tokens.actor_id = audited_members.actor_id
WHERE audited_members.project = $1
    AND audited_tokens.project IS NULL
    AND audited_tokens.token_id > $2
ORDER BY audited_tokens.token_id
LIMIT $3"""

_OTHER_NAMES = """\
SELECT projects.project, log_heads.project
FROM projects
JOIN log_heads ON log_heads.log_id = projects.log_id
WHERE projects.project <> log_heads.project
    AND (projects.project = $1 OR log_heads.project = $1)
ORDER BY projects.project
LIMIT 1000"""
"""Finds rows that would give the members of one project control of another project's log."""

_NAMES = json.Decoder(tuple[str, ...])
_UNREADABLE_WEBHOOK = WebhookState("unreadable", None, None, ())


async def replay(name: str, project: str, logs: Sequence[AuditedLog], findings: Findings) -> None:
    """Folds all logs of the project, and adds a finding for every row of access that differs.
    Findings show the project as `name`. The ids of all living secrets are kept in memory."""
    if not logs:
        return
    audit, fold, newest = ProjectAudit(logs[0].db, project, name, findings), AccessFold(), logs[-1]
    for log in logs[:-1]:
        size = (await rows.head(log.db, log.log_id)).size
        if not await _fold(audit, fold, log, range(size)):
            return
    size = (await rows.head(newest.db, newest.log_id)).size
    if not await _fold(audit, fold, newest, range(size)):
        return
    async with newest.db.snapshot() as snapshot:
        end = (await rows.head(snapshot, newest.log_id)).size
        if await _fold(audit, fold, newest, range(size, end)):
            is_moved = await moving.closed_state(snapshot, newest.log_id) == moving.MOVED
            await _compare(audit, fold, snapshot, is_moved=is_moved)


async def _fold(audit: ProjectAudit, fold: AccessFold, log: AuditedLog, span: range) -> bool:
    """Returns whether the span could be folded; a finding names the entry that could not."""
    at = span.start
    try:
        async for page in eventlog.read(log.db, log.log_id, span.start, span.stop):
            for at, _, text in page:
                kind = envelope_of(text).type
                if at == 0 and not kind.startswith(f"firmtrail.{LogContinued.__name__}."):
                    fold.begin_log()
                if kind in TYPES:
                    fold.apply(decode(at, text))
    except (eventlog.Corrupt, *UNREADABLE) as error:
        audit.findings.add(log.name, f"position {at}", f"the entry can't be folded: {error}")
        return False
    return True


async def _compare(
    audit: ProjectAudit, fold: AccessFold, snapshot: Reader, *, is_moved: bool
) -> None:
    for name, owner in await snapshot.read(Statement(_OTHER_NAMES, (audit.project,))):
        audit.add(f"projects ({name})", f"names a log of the project {owner}")
    pages = pages_of_project(snapshot, _MEMBERS, audit.project)
    members = {row[0]: row[1] async for row in pages}
    pages = pages_of_project(snapshot, _TOKENS, audit.project)
    tokens = {row[0]: _token(row) async for row in pages}
    if is_moved:  # its log can't record that a person was erased here
        fold.keep_only(members, tokens)
    _differences(audit, "members", fold.members, members)
    _differences(audit, "tokens", fold.tokens, tokens)
    webhooks = pages_of_project(snapshot, _WEBHOOKS, audit.project)
    shown = {row[0]: _webhook(row) async for row in webhooks}
    _differences(audit, "webhooks", fold.webhooks, shown)
    await _check_logins(audit, snapshot)
    await _compare_secrets(audit, fold, snapshot)


def _token(row: Row) -> TokenState:
    _, holder, role, expires_at_ms, revoked_at_ms, issued_by, registers, *registering = row
    is_revoked = revoked_at_ms is not None
    return TokenState(
        holder, role, expires_at_ms, is_revoked, issued_by, bool(registers), *registering
    )


def _webhook(row: Row) -> WebhookState:
    _, url, types, models, notices, enabled = row
    try:
        target = str(URL(url).origin())
        return WebhookState(
            target,
            None if types is None else _NAMES.decode(types),
            None if models is None else _NAMES.decode(models),
            _NAMES.decode(notices),
            bool(enabled),
        )
    except (ValueError, TypeError):  # msgspec's errors are ValueErrors
        return _UNREADABLE_WEBHOOK


def _differences(
    audit: ProjectAudit, table: str, expected: Mapping[str, object], found: Mapping[str, object]
) -> None:
    for key in sorted(expected.keys() | found.keys()):
        where = f"{table} ({key})"
        if key not in found:
            audit.add(where, f"is missing; the log says {expected[key]}")
        elif key not in expected:
            audit.add(where, f"is {found[key]}, but the log does not record it")
        elif expected[key] != found[key]:
            audit.add(where, f"is {found[key]}; the log says {expected[key]}")


async def _check_logins(audit: ProjectAudit, snapshot: Reader) -> None:
    logins = pages_of_project(snapshot, _LOGINS, audit.project)
    async for token_id, role, created_at_ms, expires_at_ms, issued_by, now_ms in logins:
        is_bounded = (
            isinstance(expires_at_ms, int)
            and isinstance(created_at_ms, int)
            and expires_at_ms - created_at_ms <= LOGIN_MS_MAX
            and expires_at_ms <= now_ms + LOGIN_MS_MAX + CLOCK_MS_MAX
        )
        if role is not None or issued_by is not None or not is_bounded:
            audit.add(f"tokens ({token_id})", "is valid in all projects, but is not a valid login")


async def _compare_secrets(audit: ProjectAudit, fold: AccessFold, snapshot: Reader) -> None:
    left = fold.secrets
    async for device, found in _secrets(snapshot, audit.project):
        expected = left.pop(device, {})
        seen: set[str] = set()
        for secret_id, until_ms in found:
            where = f"device_secrets ({device}, {secret_id})"
            if secret_id not in expected or secret_id in seen:
                audit.add(where, "exists, but the log does not record it")
            elif expected[secret_id] != until_ms:
                audit.add(where, f"expires at {until_ms}; the log says {expected[secret_id]}")
            seen.add(secret_id)
        for secret_id in sorted(expected.keys() - seen):
            audit.add(f"device_secrets ({device}, {secret_id})", "is missing")
    for device, secrets in sorted(left.items()):
        for secret_id in sorted(secrets):
            audit.add(f"device_secrets ({device}, {secret_id})", "is missing")


async def _secrets(
    snapshot: Reader, project: str
) -> AsyncIterator[tuple[str, list[tuple[str, int | None]]]]:
    """Yields each device with its secrets."""
    after = ""
    while page := await snapshot.read(Statement(_SECRETS, (project, after, PAGE_ROWS))):
        devices: dict[str, list[tuple[str, int | None]]] = {}
        for device, secret_id, until_ms in page:
            devices.setdefault(device, []).append((secret_id, until_ms))
        if len(page) == PAGE_ROWS:  # the last device may have more secrets
            last = next(reversed(devices))
            of_last = await snapshot.read(Statement(_SECRETS_OF, (project, last)))
            devices[last] = [(secret_id, until_ms) for _, secret_id, until_ms in of_last]
        for device, found in devices.items():
            yield device, found
        after = next(reversed(devices))
