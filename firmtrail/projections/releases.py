"""Keeps the view of a project's releases and their artifacts, the state that the rules fold.

Each event carries every column that it writes, so applying it reads nothing first. One query reads
all of a project's releases, some hundred.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Reader, Row, Statement, Value
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import ArtifactAdded, ReleaseAdded, ReleaseWithdrawn
from firmtrail.eventstore import lineage
from firmtrail.projections import view
from firmtrail.projections.view import Table, columns_of, generation_of
from firmtrail.rules import release
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey, ReleaseState

NAME = "releases"
REVISION = 1
_ADDED = columns_of("model text, version text, position bigint, added_at_ms bigint, has_notes flag")
RELEASES = Table(
    NAME,
    ("model", "version"),
    _ADDED | columns_of("withdrawn_position bigint, withdrawn_at_ms bigint"),
)
"""Its columns are the members of `ReleaseState`, in their order."""
_FILE = columns_of("""
    name text, size_bytes bigint, sha256 text, sha1 text, md5 text, provides_name text,
    device_types list""")
"""Its columns are the members of `ReleaseArtifact`, in their order."""
ARTIFACTS = Table(
    "release_artifacts",
    ("model", "version", "name"),
    columns_of("model text, version text, position bigint") | _FILE,
)
TABLES: tuple[Table, ...] = (RELEASES, ARTIFACTS)

_release = view.decoder(RELEASES.columns, ReleaseState)
_artifact = view.decoder(_FILE, ReleaseArtifact)
_artifact_row = view.encoder(_FILE, attrgetter("name", "size", *list(_FILE)[2:]))

_INSERT = view.insert(RELEASES._replace(columns=_ADDED))
_COLUMNS = view.typed(_ADDED)
_INSERT_ARTIFACTS = view.insert(ARTIFACTS)
_ARTIFACT_COLUMNS = view.typed(ARTIFACTS.columns)

_WITHDRAW = """\
UPDATE releases
SET withdrawn_position = $5, withdrawn_at_ms = $6
WHERE log_id = $1 AND generation = $2 AND model = $3 AND version = $4"""

_RELEASE = view.selected(RELEASES.columns, "release")
_ARTIFACT = view.selected(_FILE, "artifact")
_STATE = f"{_RELEASE}, {_ARTIFACT}"

_WITH_ARTIFACTS = """\
LEFT JOIN release_artifacts AS artifact
    ON artifact.log_id = release.log_id
    AND artifact.generation = release.generation
    AND artifact.model = release.model
    AND artifact.version = release.version"""

_LOAD = f"""\
SELECT {_STATE}
FROM releases AS release
{_WITH_ARTIFACTS}
WHERE release.log_id = $1 AND release.generation = {{generation}}
ORDER BY release.model, release.version, artifact.name"""

_EVERYWHERE = f"""\
SELECT release.log_id, {_RELEASE}
FROM log_heads
CROSS JOIN releases AS release
WHERE log_heads.closed = 0
    AND release.log_id = log_heads.log_id
    AND release.generation = {generation_of(NAME, "log_heads.log_id")}
ORDER BY release.log_id, release.model, release.version"""

_LIST = f"""\
SELECT
    log_heads.size,
    CASE WHEN release.has_notes = 1 THEN coalesce(notes.text, 'erased') END,
    CASE WHEN release.withdrawn_position IS NOT NULL THEN coalesce(reason.text, 'erased') END,
    {_STATE}
FROM log_heads
LEFT JOIN releases AS release
    ON release.log_id = $1 AND release.generation = {generation_of(NAME)}
{lineage.join_sql("texts", "notes", "release.position")}
{lineage.join_sql("texts", "reason", "release.withdrawn_position")}
{_WITH_ARTIFACTS}
WHERE log_heads.log_id = $1
ORDER BY release.model, release.version, artifact.name"""


_OFFERED = f"""\
SELECT
    {_ARTIFACT},
    CASE WHEN release.withdrawn_position IS NULL THEN 0 ELSE 1 END AS is_withdrawn
FROM release_artifacts AS artifact
JOIN releases AS release
    ON release.log_id = artifact.log_id
    AND release.generation = artifact.generation
    AND release.model = artifact.model
    AND release.version = artifact.version
WHERE artifact.log_id = $1
    AND artifact.generation = {generation_of(NAME)}
    AND artifact.sha256 = $3
    AND artifact.model = (
        SELECT device.model
        FROM device_current AS device
        WHERE device.log_id = $1
            AND device.generation = {generation_of("device_current")}
            AND device.device = $2
            AND device.decommissioned = 0)
    AND EXISTS (
        SELECT 1
        FROM device_offers AS offer
        WHERE offer.log_id = $1
            AND offer.generation = {generation_of("device_offers")}
            AND offer.device = $2
            AND offer.version = artifact.version)
ORDER BY is_withdrawn, artifact.version, artifact.name
LIMIT 1"""


class ReleaseTexts(NamedTuple):
    """Holds the texts of a release, which are kept outside the log; "erased" stands for an erased
    text."""

    notes: str | None
    reason: str | None


class ReleaseWithTexts(NamedTuple):
    """Holds a release with its texts."""

    release: ReleaseState
    texts: ReleaseTexts


class Offered(NamedTuple):
    """Holds an artifact of a release that a device was offered."""

    artifact: ReleaseArtifact
    is_withdrawn: bool


def apply(log_id: int, generation: int, recorded: Sequence[Recorded]) -> list[Statement]:
    """Returns the statements that write these events, each of a release's stream."""
    added: list[tuple[Value, ...]] = []
    artifacts: list[tuple[Value, ...]] = []
    withdrawn: list[Statement] = []
    for each in recorded:
        key = release.key_of(each.stream)
        assert key is not None
        match each.event:
            case ReleaseAdded(notes=notes):
                has_notes = int(notes is not None)
                added.append((*key, each.position, each.recorded_at_ms, has_notes))
            case ArtifactAdded():
                artifacts.append((*key, each.position, *_artifact_row(each.event)))
            case ReleaseWithdrawn():
                args = (log_id, generation, *key, each.position, each.recorded_at_ms)
                withdrawn.append(Statement(_WITHDRAW, args))
    inserts = ((_INSERT, _COLUMNS, added), (_INSERT_ARTIFACTS, _ARTIFACT_COLUMNS, artifacts))
    return [
        *(
            Statement(text, (log_id, generation), Given(columns, rows))
            for text, columns, rows in inserts
            if rows
        ),
        *withdrawn,
    ]


def load(log_id: int, generation: int) -> Statement:
    """Reads all releases of the log; `state` decodes them."""
    return Statement(_LOAD.format(generation="$2"), (log_id, generation))


async def live(db: Reader, log_id: int) -> dict[ReleaseKey, ReleaseState]:
    """Returns all releases of the log as they are now."""
    return state(await db.read(Statement(_LOAD.format(generation=generation_of(NAME)), (log_id,))))


async def everywhere(db: Database) -> dict[int, list[ReleaseState]]:
    """Returns the releases of all projects' newest logs, by log, without their artifacts."""
    found: dict[int, list[ReleaseState]] = {}
    for log_id, *columns in await db.read(Statement(_EVERYWHERE)):
        found.setdefault(log_id, []).append(_release(columns))
    return found


def state(rows: Iterable[Row]) -> dict[ReleaseKey, ReleaseState]:
    artifacts: dict[ReleaseKey, list[ReleaseArtifact]] = {}
    columns: dict[ReleaseKey, Row] = {}
    for row in rows:
        of_release, of_artifact = row[: len(RELEASES.columns)], row[len(RELEASES.columns) :]
        key = ReleaseKey(row[0], row[1])
        columns[key] = of_release
        files = artifacts.setdefault(key, [])
        if of_artifact[0] is not None:
            files.append(_artifact(of_artifact))
    return {key: _release([*row, tuple(artifacts[key])]) for key, row in columns.items()}


def load_with_texts(log_id: int) -> Statement:
    """Reads all releases of the log with their texts; `with_texts` decodes them."""
    return Statement(_LIST, (log_id,))


def with_texts(rows: Sequence[Row]) -> tuple[int, dict[ReleaseKey, ReleaseWithTexts]]:
    """Returns the log's size and its releases, from the rows of `load_with_texts`."""
    known = [row for row in rows if row[3] is not None]
    texts = {ReleaseKey(row[3], row[4]): ReleaseTexts(row[1], row[2]) for row in known}
    found = state(row[3:] for row in known)
    return rows[0][0], {key: ReleaseWithTexts(each, texts[key]) for key, each in found.items()}


async def offered(db: Database, log_id: int, device: str, digest: str) -> Offered | None:
    """Returns the artifact with this SHA-256 in a release of the device's model that the device was
    ever offered, if possible one that is not withdrawn; None if there is none."""
    rows = await db.read(Statement(_OFFERED, (log_id, device, digest)))
    return Offered(_artifact(rows[0][:-1]), bool(rows[0][-1])) if rows else None
