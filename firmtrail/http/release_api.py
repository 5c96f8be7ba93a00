"""What users call to release versions: add, list, withdraw."""

from typing import Any

from aiohttp import web

from firmtrail.commands import releases as commands
from firmtrail.commands.once import answering
from firmtrail.commands.releases import After
from firmtrail.events.fleet import ReleaseAdded
from firmtrail.events.times import time_text
from firmtrail.http import answers, lists, respond
from firmtrail.http.answers import time_or_none
from firmtrail.http.bodies import NewRelease, ReleasesQuery, Withdrawal
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import NotFound
from firmtrail.http.lists import ListPage, SortKey
from firmtrail.projections import releases
from firmtrail.projections.releases import Told
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Command
from firmtrail.rules import release, version
from firmtrail.rules.release import Key, Releases


async def get_releases(call: Call[ReleasesQuery, None]) -> web.StreamResponse:
    """The releases, by model, the highest version first."""
    size, told = await _told(call)
    latest = _latest(told)
    found = sorted(
        (each for each in told.values() if call.query.model in {None, each.release.model}),
        key=lambda each: (version.precedence(each.release.version), each.release.position),
        reverse=True,
    )
    found.sort(key=lambda each: each.release.model)
    places: list[SortKey] = [(each.release.model, each.release.version) for each in found]

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        start = 0 if place is None else places.index(place) + 1
        end = start + limit
        items = [_shown(each, is_latest=_key(each) in latest) for each in found[start:end]]
        return ListPage(items, places[end - 1] if end < len(places) else None, size)

    async def count() -> int:
        return len(found)

    return await lists.answer(call, answers.Release, fetch, count, key_type=tuple[str, str])


async def get_release(call: AnyCall) -> web.Response:
    """A release with its artifacts."""
    size, told = await _told(call)
    key = key_of(call)
    if key not in told:
        raise NotFound(f"{key.model} has no release {key.version}.")
    return respond.resource(call, _shown(told[key], is_latest=key in _latest(told)), size)


async def post_release(call: Call[Any, NewRelease]) -> web.Response:
    """Add a release."""
    wanted = ReleaseAdded(call.body.model, call.body.version)
    return await _act(call, 201, commands.add(wanted, call.body.notes, actor=call.caller.actor))


async def post_withdrawal(call: Call[Any, Withdrawal]) -> web.Response:
    """Withdraw a release for good."""
    reason, actor = call.body.reason, call.caller.actor
    return await _act(call, 200, commands.withdraw(key_of(call), reason, actor=actor))


async def _act(call: AnyCall, status: int, command: Command[After]) -> web.Response:
    async def shown(commit: Commit) -> answers.Release:
        after = await command(commit)
        return _shown(after.told, is_latest=after.is_latest)

    return await respond.run_once(call, answering(status, shown))


async def _told(call: AnyCall) -> tuple[int, dict[Key, Told]]:
    return releases.told(await call.services.db.read(releases.tell(call.log_id)))


async def state(call: AnyCall) -> Releases:
    """The project's releases."""
    return {key: each.release for key, each in (await _told(call))[1].items()}


def _latest(told: dict[Key, Told]) -> set[Key]:
    latest = release.latest(each.release for each in told.values())
    return {Key(each.model, each.version) for each in latest.values()}


def key_of(call: AnyCall) -> Key:
    """The release that the path names."""
    return Key(call.path("model"), call.path("version"))


def _key(told: Told) -> Key:
    return Key(told.release.model, told.release.version)


def _shown(told: Told, *, is_latest: bool) -> answers.Release:
    release, texts = told
    return answers.Release(
        version=release.version,
        model=release.model,
        notes=texts.notes,
        latest=is_latest,
        added_at=time_text(release.added_at_ms),
        withdrawn=release.is_withdrawn,
        withdrawn_at=time_or_none(release.withdrawn_at_ms),
        reason=texts.reason,
        artifacts=[
            answers.Artifact(each.name, each.size_bytes, each.sha256) for each in release.artifacts
        ],
    )
