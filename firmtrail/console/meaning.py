"""Says in words what an event means, and who caused it: one sentence, and the facts it records.

A sentence is made from the template of its type; an event of a type without one gets the words of
its name. Everything that comes from devices and people is escaped.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from markupsafe import Markup

from firmtrail.access import people, tokens
from firmtrail.access.tokens import NamedToken
from firmtrail.console import filters, nested
from firmtrail.console.here import Here, here_of
from firmtrail.events.event import Event, Recorded
from firmtrail.events.log import AccessRecordSealed
from firmtrail.events.steering import (
    DeviceFellSilent,
    RolloutPaused,
    RolloutPhaseMet,
    RolloutStarted,
)
from firmtrail.events.times import time_ms
from firmtrail.events.webhooks import WebhookChanged
from firmtrail.http.call import AnyCall
from firmtrail.recording.commit import SYSTEM

SENTENCES: Mapping[str, str] = {
    "FirmwareInstalled": "{subject} installed {version}",
    "FirmwareRunning": "{subject} runs {version}",
    "UpdateProgressed.downloading": "{subject} downloads {version}",
    "UpdateProgressed.downloaded": "{subject} downloaded {version}",
    "UpdateProgressed.installing": "{subject} installs {version}",
    "UpdateProgressed.rebooting": "{subject} reboots into {version}",
    "UpdateFailed.failed": "{subject} failed on {version}",
    "UpdateFailed.rejected": "{subject} refused {version}",
    "UpdateOffered": "{subject} was offered {version}",
    "OfferEnded": "{subject} does nothing more about the offer of {version}",
    "AttemptsCleared": "{subject} may try {version} again",
    "DeviceFellSilent": "{subject} fell silent after the offer of {version}",
    "Asked": "{subject} was asked which version it runs",
    "DeviceRegistered": "{subject} was registered",
    "DeviceChanged": "{subject} was changed: {members}",
    "DeviceSecretIssued": "{subject} got a new secret",
    "DeviceSecretRevoked": "the secrets of {subject} ended",
    "DeviceAccepted": "{subject} was accepted",
    "DeviceKeyOffered": "a key was offered for {subject}, and waits to be accepted",
    "DeviceKeyAccepted": "a key of {subject} was accepted",
    "DeviceKeyRejected": "a key for {subject} was refused",
    "DeviceDecommissioned": "{subject} was decommissioned",
    "DeviceRestored": "{subject} was restored",
    "SettingsChanged": "settings were changed: {members}",
    "SettingsChanged.first": "the project was created, with its first settings",
    "ReleaseAdded": "{subject} was added",
    "ArtifactAdded": "{subject} got the file {name}",
    "ReleaseWithdrawn": "{subject} was withdrawn",
    "RolloutStarted": "{subject} of {version} to {model} was started at {percent}",
    "RollbackStarted": "{subject} recalls {bad_version} from {model}",
    "RolloutAdvanced": "{subject} was advanced to {percent}",
    "RolloutPlanChanged": "{subject} got another plan",
    "RolloutPhaseMet": "{subject} met what its phase waited for",
    "RolloutApproved": "{subject} was approved",
    "RolloutRejected": "{subject} was rejected",
    "RolloutPaused": "{subject} was paused",
    "RolloutResumed": "{subject} was resumed",
    "RolloutAborted": "{subject} was aborted",
    "Halted": "all offers were halted",
    "Resumed": "the halt ended",
    "MemberAdded": "{subject} became {role}",
    "MemberChanged": "{subject} became {role}",
    "MemberRemoved": "{subject} left the project",
    "TokenIssued": "{subject} was issued with the role {role}",
    "TokenRevoked": "{subject} was revoked",
    "UserErased": "{subject} was erased",
    "TextErased": "the text of the event at position {position} was erased",
    "WebhookAdded": "a webhook to {target} was added",
    "WebhookChanged": "{subject} was changed: {members}",
    "WebhookRemoved": "a webhook was removed",
    "AccessRecordSealed": "the access record was sealed at {size} reads",
    "AccessRecordTrimmed": "the first {size} reads of the access record were deleted",
    "LogContinued": "this log continues log {log} after {size} events",
    "ProjectMoveStarted": "the project is moved to {to}, at {address}",
    "ProjectMoveUndone": "the move to {to} was undone",
    "ProjectArrived": "the project arrived here, with its logs up to {log}",
}

_CODES = frozenset({"version", "bad_version", "fallback", "name", "sent", "sha256", "running"})
"""Members that are shown in the monospace font."""
PEOPLE = ("member", "holder", "user")
"""Members that hold the id of a user."""

_COUNTS = frozenset({"size", "failed", "installed", "min_reports"})


class Fact(NamedTuple):
    """Holds one member of an event, in words."""

    label: str
    value: Markup


class Wording(NamedTuple):
    """Knows what an event alone does not say: the addresses of people, and the names of tokens."""

    here: Here
    emails: Mapping[str, str]
    tokens: Mapping[str, NamedToken]

    def sentence(self, recorded: Recorded) -> Markup:
        """Returns what happened, without its actor."""
        event = recorded.event
        name = type(event).__name__
        kind = "first" if recorded.position == 0 else getattr(event, "status", "")
        template = SENTENCES.get(f"{name}.{kind}") or SENTENCES.get(name)
        if template is None:
            return Markup("{}: {}").format(self.thing(recorded.stream), words_of(name))
        members = {fact.label: fact.value for fact in facts_of(event)}
        by_name = {label.replace(" ", "_"): value for label, value in members.items()}
        shown = {
            "subject": self.thing(recorded.stream),
            "members": ", ".join(members) or "nothing",
            "percent": by_name.get("reach", ""),
            **by_name,
        }
        return Markup(template).format_map(_Forgiving(shown))  # noqa: S704 (a text of ours)

    def thing(self, stream: str) -> Markup:
        """Returns the name of what the stream is about, linked to its page."""
        kind, _, name = stream.partition("/")
        match kind:
            case "device" | "rollout" | "release":
                return self._linked(kind, name)
            case "user":
                return self.person(name)
            case "token" | "gateway":
                return self.token(name, kind)
            case _:
                return Markup("{} {}").format(kind, _code(name))

    def facts(self, event: Event) -> list[Fact]:
        """Returns the members that the event sets, with links and with the names of people."""
        return [fact._replace(value=self._value(fact, event)) for fact in facts_of(event)]

    def _value(self, fact: Fact, event: Event) -> Markup:
        if fact.label in PEOPLE:
            return self.person(getattr(event, fact.label))
        if fact.label == "rollout":
            return self.thing(f"rollout/{getattr(event, fact.label)}")
        return fact.value

    def _linked(self, kind: str, name: str) -> Markup:
        if kind == "release":
            model, _, version = name.partition("/")
            url = self.here.url("releases", model, version)
            return Markup("{} {}").format(model, _link(url, version))
        before = Markup("rollout ") if kind == "rollout" else Markup("")
        return before + _link(self.here.url(f"{kind}s", name), name)

    def token(self, token_id: str, kind: str = "token") -> Markup:
        """Returns the name of a token and of its holder; the id if it has no name any more."""
        found = self.tokens.get(token_id)
        if found is None:
            return Markup("{} {}").format(kind, filters.short(token_id))
        holder = Markup("") if found.email is None else Markup(" of {}").format(found.email)
        shown = Markup('<span title="{}">{} {}{}</span>')
        return shown.format(token_id, kind, filters.words(found.name), holder)

    def person(self, actor_id: str) -> Markup:
        """Returns the address of a user; the id if the user has none any more."""
        email = self.emails.get(actor_id)
        return _code(actor_id) if email is None else filters.words(email)

    def actor(self, recorded: Recorded) -> Markup:
        """Returns who or what caused the event."""
        if recorded.actor == recorded.stream and recorded.actor.startswith("device/"):
            return Markup("the device itself")
        if recorded.actor == SYSTEM:
            return Markup.escape(system_name(recorded.event))
        return self.named(recorded.actor)

    def named(self, actor: str) -> Markup:
        """Returns an actor in words, linked if it has a page."""
        return Markup.escape(COMMAND_LINE) if actor == SYSTEM else self.thing(actor)


COMMAND_LINE = "the command line"
"""Names an actor `system` that the service itself is not: `firmtrail`, without a token."""


def system_name(event: Event) -> str:
    """Returns what caused an event of the actor `system`, in words."""
    return "the service" if _is_automatic(event) else COMMAND_LINE


def _is_automatic(event: Event) -> bool:
    """Returns whether the service records such an event on its own; no command gives one."""
    match event:
        case RolloutPaused():
            return event.failed is not None
        case RolloutStarted():
            return event.release_position is not None
        case WebhookChanged():
            return event.disabled_for is not None
    return isinstance(event, RolloutPhaseMet | DeviceFellSilent | AccessRecordSealed)


async def wording_of(call: AnyCall, names: Iterable[str]) -> Wording:
    """Returns the wording of actors and streams of these names, for a page of this call."""
    ids: dict[str, set[str]] = {"user": set(), "token": set(), "gateway": set()}
    for kind, _, name in (each.partition("/") for each in names):
        ids.setdefault(kind, set()).add(name)
    db, token_ids = call.db, ids["token"] | ids["gateway"]
    emails = await people.emails(db, ids["user"]) if ids["user"] else {}
    named = await tokens.named(db, token_ids) if token_ids else {}
    return Wording(here_of(call, None), emails, named)


class _Forgiving(dict[str, object]):
    """Replaces a member that the event left out."""

    def __missing__(self, name: str) -> str:
        return f"no {name.replace('_', ' ')}"


def words_of(name: str) -> str:
    """Returns the words that a name in camel case is made of."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def facts_of(event: Event) -> list[Fact]:
    """Returns the members that the event sets, but for its free text."""
    return [
        Fact(field.name.replace("_", " "), _shown(field.name, value))
        for field in msgspec.structs.fields(event)
        if field.name != event.TEXT
        and (value := getattr(event, field.name)) != field.default
        and value is not msgspec.UNSET
    ]


def _shown(name: str, value: object) -> Markup:
    if isinstance(value, str):
        return _text(name, value)
    if (words := nested.in_words(value)) is not None:
        return words
    if isinstance(value, list | tuple):
        return Markup(", ").join(_code(str(each)) for each in value) or Markup("none")
    return Markup("{}").format(_plain(name, value))


def _plain(name: str, value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int() if name == "reach":
            return filters.percent(value / 10_000, 0 if value % 100 == 0 else 2)
        case int() if name in _COUNTS:
            return filters.number(value)
        case _:
            return str(value)


def _text(name: str, text: str) -> Markup:
    if name.endswith("_at"):
        return _time(text)
    return _code(text) if name in _CODES or name.endswith("_id") else filters.words(text)


def _time(text: str) -> Markup:
    """Returns a time as people read it; a device's claim may be any text."""
    try:
        return filters.time(time_ms(text))
    except (ValueError, TypeError):  # not a time, or one without a zone
        return filters.words(text)


def _code(text: str) -> Markup:
    return Markup('<code class="mono">{}</code>').format(text)


def _link(url: str, name: str) -> Markup:
    return Markup('<a class="mono" href="{}">{}</a>').format(url, name)
