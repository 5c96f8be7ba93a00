"""Serves releases: add, list and withdraw the versions that devices can be sent to."""

from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import asdict, replace

from firmtrail.commands import releases as commands
from firmtrail.commands.once import answering
from firmtrail.events.fleet import ReleaseAdded
from firmtrail.events.times import time_text
from firmtrail.http import lists, respond
from firmtrail.http.api.rows import OPERATE, POST, READ, P, command, listing, resource
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none, too_long
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.downloads import all_with_digests
from firmtrail.http.errors import NotFound
from firmtrail.http.faults import raise_if_broken
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.scalars import FreeText, Name, VersionText
from firmtrail.projections import releases
from firmtrail.projections.releases import ReleaseWithTexts
from firmtrail.recording.commit import Commit
from firmtrail.rules import release, version
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey, Releases

RELEASE = f"{P}/releases/{{model}}/{{version}}"


class Artifact(msgspec.Struct, frozen=True):
    """Describes a file of a release; `size` is in bytes."""

    name: str
    size: int
    sha256: str
    sha1: str | None
    md5: str | None
    provides_name: str | None
    """The name that a Mender artifact gives itself."""
    device_types: list[str]
    """The device types that a Mender artifact fits."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a release; `latest`: it has the highest precedence of its model's releases that are
    neither withdrawn nor pre-releases."""

    version: str
    model: str
    notes: str | None
    latest: bool
    added_at: TimeText
    withdrawn: bool
    withdrawn_at: TimeText | None
    reason: str | None
    """Why it was withdrawn."""
    artifacts: list[Artifact]


class AddedRelease(Release, frozen=True, kw_only=True):
    """Describes a release that was just added."""

    rollout: str | None
    """The id of the rollout that the setting `auto_rollout` started with it."""


class ReleasesQuery(ListQuery, frozen=True, kw_only=True):
    """Filters the releases."""

    model: Name | None = None


class NewRelease(StrictBody, frozen=True, kw_only=True):
    """Names a release to add."""

    version: VersionText
    model: Name
    notes: FreeText | None = None

    def __post_init__(self) -> None:
        raise_if_broken(too_long("notes", self.notes))


class Withdrawal(StrictBody, frozen=True, kw_only=True):
    """Gives the reason why a release is never offered again."""

    reason: FreeText

    def __post_init__(self) -> None:
        raise_if_broken(too_long("reason", self.reason))


async def get_releases(call: Call[ReleasesQuery, None]) -> web.StreamResponse:
    """List the releases by model, the highest version first."""
    size, by_key = await _read(call)
    latest = _latest(by_key)
    found = sorted(
        (each for each in by_key.values() if call.query.model in {None, each.release.model}),
        key=lambda each: (version.precedence(each.release.version), each.release.position),
        reverse=True,
    )
    found.sort(key=lambda each: each.release.model)
    places: list[SortKey] = [(each.release.model, each.release.version) for each in found]

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        start = 0 if place is None else places.index(place) + 1
        end = start + limit
        items = [
            _shown(each, is_latest=key in latest)
            for each, key in zip(found[start:end], places[start:end], strict=True)
        ]
        return ListPage(items, places[end - 1] if end < len(places) else None, size)

    async def count() -> int:
        return len(found)

    return await lists.answer(call, Release, fetch, count, key_type=tuple[str, str])


async def get_release(call: AnyCall) -> web.Response:
    """Return a release with its artifacts."""
    size, by_key = await _read(call)
    key = key_of(call)
    if key not in by_key:
        raise NotFound(f"{key.model} has no release {key.version}.")
    found = await _with_digests(call, by_key[key])
    return respond.resource(call, _shown(found, is_latest=key in _latest(by_key)), size)


async def post_release(call: Call[Any, NewRelease]) -> web.Response:
    """Add a release: a version that devices of a model can be sent to."""
    wanted = ReleaseAdded(call.body.model, call.body.version)
    by = commands.ReleaseAuthor(call.caller.actor, call.caller.actor_id)
    add = commands.add(wanted, call.body.notes, by=by)

    async def shown(commit: Commit) -> AddedRelease:
        after = await add(commit)
        found = _shown(after.release, is_latest=after.is_latest)
        return AddedRelease(**asdict(found), rollout=after.rollout)

    return await respond.run_once(call, answering(201, shown))


async def post_withdrawal(call: Call[Any, Withdrawal]) -> web.Response:
    """Withdraw a release for good: it is never offered again."""
    reason, actor = call.body.reason, call.caller.actor
    withdraw = commands.withdraw(key_of(call), reason, actor=actor)

    async def shown(commit: Commit) -> Release:
        after = await withdraw(commit)
        return _shown(after.release, is_latest=after.is_latest)

    return await respond.run_once(call, answering(200, shown))


async def _read(call: AnyCall) -> tuple[int, dict[ReleaseKey, ReleaseWithTexts]]:
    return releases.with_texts(await call.db.read(releases.load_with_texts(call.log_id)))


async def releases_of(call: AnyCall) -> Releases:
    return {key: each.release for key, each in (await _read(call))[1].items()}


async def _with_digests(call: AnyCall, found: ReleaseWithTexts) -> ReleaseWithTexts:
    artifacts = await all_with_digests(call, found.release.artifacts)
    return found._replace(release=replace(found.release, artifacts=tuple(artifacts)))


def _latest(found: dict[ReleaseKey, ReleaseWithTexts]) -> set[ReleaseKey]:
    latest = release.latest(each.release for each in found.values())
    return {ReleaseKey(each.model, each.version) for each in latest.values()}


def key_of(call: AnyCall) -> ReleaseKey:
    return ReleaseKey(call.path("model"), call.path("version"))


def _shown(found: ReleaseWithTexts, *, is_latest: bool) -> Release:
    release, texts = found
    return Release(
        version=release.version,
        model=release.model,
        notes=texts.notes,
        latest=is_latest,
        added_at=time_text(release.added_at_ms),
        withdrawn=release.is_withdrawn,
        withdrawn_at=time_or_none(release.withdrawn_at_ms),
        reason=texts.reason,
        artifacts=[shown(each) for each in release.artifacts],
    )


def shown(artifact: ReleaseArtifact) -> Artifact:
    """Returns an artifact as answers show it."""
    return Artifact(
        artifact.name,
        artifact.size_bytes,
        artifact.sha256,
        sha1=artifact.sha1,
        md5=artifact.md5,
        provides_name=artifact.provides_name,
        device_types=list(artifact.device_types),
    )


ROUTES = (
    listing(f"{P}/releases", get_releases, READ, Release, query=ReleasesQuery, is_view=True),
    command(
        POST, f"{P}/releases", post_release, OPERATE, body=NewRelease, answers={201: AddedRelease}
    ),
    resource(RELEASE, get_release, READ, Release, is_view=True),
    command(
        POST,
        f"{RELEASE}/withdraw",
        post_withdrawal,
        OPERATE,
        body=Withdrawal,
        answers={200: Release},
    ),
)
