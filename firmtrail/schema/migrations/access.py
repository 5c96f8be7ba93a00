"""Fills the columns that schema 0004 adds to rows of access.

Rows of the access record get their positions in the chain of their project. A token that another
token issued gets its issuer, which the log names as the actor, and its issuer's limits.
"""

from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from firmtrail.eventstore import chain

PAGE_ROWS = 1_000

_KEYS = ("seq", "project", "at_ms", "request_id")

_RECORDS = text("""\
SELECT project, at_ms, request_id, actor, path, asked, address
FROM access_record
WHERE seq IS NULL
ORDER BY project, at_ms, request_id
LIMIT :limit""")

_PLACE = text("""\
UPDATE access_record
SET seq = :seq
WHERE project = :project AND at_ms = :at_ms AND request_id = :request_id""")

_HEAD = text("""\
INSERT INTO access_heads (project, size, head, sealed)
VALUES (:project, :size, :head, 0)""")

_TOKENS = text("""\
SELECT tokens.token_id, tokens.expires_at_ms, tokens.revoked_at_ms, events.entry
FROM tokens
JOIN log_heads ON log_heads.project = tokens.project
JOIN events
    ON events.log_id = log_heads.log_id
    AND events.stream = 'token/' || tokens.token_id
WHERE tokens.issued_by IS NULL
ORDER BY tokens.created_at_ms, tokens.token_id""")

_LIMIT = text("""\
UPDATE tokens
SET issued_by = :issued_by, expires_at_ms = :expires_at_ms, revoked_at_ms = :revoked_at_ms
WHERE token_id = :token_id""")


def chain_records(connection: Connection) -> None:
    """Gives each row of the access record its position, and each project the head of its chain."""
    heads: dict[str, tuple[int, str]] = {}
    while rows := connection.execute(_RECORDS, {"limit": PAGE_ROWS}).all():
        for project, group in groupby(rows, key=lambda row: row.project):
            size, head = heads.get(project, (0, chain.START))
            places = [(seq, *row) for seq, row in enumerate(group, start=size)]
            connection.execute(_PLACE, [dict(zip(_KEYS, each[:4], strict=True)) for each in places])
            heads[project] = size + len(places), chain.extended(head, places)
    for project, (size, head) in heads.items():
        connection.execute(_HEAD, {"project": project, "size": size, "head": head})


def limit_tokens(connection: Connection) -> None:
    """Gives each token that a token issued its issuer, and a life no longer than the issuer's."""
    known: dict[str, dict[str, Any]] = {}
    for token_id, expires_at_ms, revoked_at_ms, entry in connection.execute(_TOKENS).all():
        decoded = msgspec.json.decode(entry)
        if not decoded["type"].startswith("firmtrail.TokenIssued."):
            continue
        limits = {"expires_at_ms": expires_at_ms, "revoked_at_ms": revoked_at_ms}
        kind, _, issuer = decoded["actor"].partition("/")
        if kind in {"token", "gateway"} and issuer in known:
            limits = {name: _least(limits[name], known[issuer][name]) for name in limits}
            connection.execute(_LIMIT, {"token_id": token_id, "issued_by": issuer, **limits})
        known[token_id] = limits


def _least(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)
