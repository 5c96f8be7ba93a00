"""Folds the events about access into a project's members, living tokens, living secrets and
webhooks. Pure.

Members, tokens and webhooks come from all logs of the project. A secret comes from the log in which
its device is registered, or from a log that this one continues.
"""

from collections.abc import Container, Mapping
from typing import NamedTuple

from msgspec import UNSET

from firmtrail.events.access import (
    MemberAdded,
    MemberChanged,
    MemberRemoved,
    TokenIssued,
    TokenRevoked,
    UserErased,
)
from firmtrail.events.entry import types_named
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import (
    DeviceDecommissioned,
    DeviceKeyAccepted,
    DeviceRegistered,
    DeviceSecretIssued,
    DeviceSecretRevoked,
)
from firmtrail.events.log import ProjectArrived
from firmtrail.events.times import time_ms
from firmtrail.events.webhooks import WebhookAdded, WebhookChanged, WebhookRemoved

EVENTS: tuple[type[Event], ...] = (
    MemberAdded,
    MemberChanged,
    MemberRemoved,
    UserErased,
    TokenIssued,
    TokenRevoked,
    DeviceRegistered,
    DeviceSecretIssued,
    DeviceSecretRevoked,
    DeviceKeyAccepted,
    DeviceDecommissioned,
    WebhookAdded,
    WebhookChanged,
    WebhookRemoved,
    ProjectArrived,
)
TYPES = frozenset(name for event in EVENTS for name in types_named(event.__name__))
"""The types of the entries that the fold needs."""

ISSUERS = frozenset({"token", "gateway"})
"""The kinds of actors that are API tokens."""


class TokenState(NamedTuple):
    """Holds the facts that decide what a token may do, and until when."""

    holder: str
    role: str
    expires_at_ms: int | None
    is_revoked: bool = False
    issued_by: str | None = None
    registers: bool = False
    model: str | None = None
    registers_max: int | None = None
    registered: int = 0
    """How many devices it has registered."""


class WebhookState(NamedTuple):
    """Holds what a webhook's receiver gets."""

    target: str
    """The scheme, host and port of its URL."""
    types: tuple[str, ...] | None
    models: tuple[str, ...] | None
    notices: tuple[str, ...]
    enabled: bool = True


class AccessFold:
    """Holds the members, tokens, secrets and webhooks after the events that were applied."""

    def __init__(self) -> None:
        self.members: dict[str, str | None] = {}
        """actor id -> role; None: no longer a member."""
        self.tokens: dict[str, TokenState] = {}
        self.secrets: dict[str, dict[str, int | None]] = {}
        """device -> secret id -> expiry in ms; None: it does not expire."""
        self.webhooks: dict[str, WebhookState] = {}

    def begin_log(self) -> None:
        """Begins a log that continues no other: its devices have no secrets yet."""
        self.secrets.clear()

    def keep_only(self, members: Container[str], tokens: Container[str]) -> None:
        """Leaves out every other member and token."""
        self.members = {name: role for name, role in self.members.items() if name in members}
        self.tokens = {name: token for name, token in self.tokens.items() if name in tokens}

    def apply(self, recorded: Recorded) -> None:
        """Applies the next event of one of the classes in `EVENTS`."""
        match recorded.event:
            case MemberAdded(member, role) | MemberChanged(member, role):
                self.members[member] = role
            case MemberRemoved(member):
                self.members[member] = None
            case UserErased(user):
                self.members.pop(user, None)
                self.tokens = {n: each for n, each in self.tokens.items() if each.holder != user}
            case ProjectArrived(people=people):
                self._rename(people)
            case TokenIssued() as issued:
                self._issue(issued, recorded.actor)
            case TokenRevoked(token_id):
                self._revoke(token_id)
            case WebhookAdded() | WebhookChanged() | WebhookRemoved():
                self._apply_to_webhook(recorded)
            case _:
                self._apply_to_device(recorded)

    def _rename(self, people: Mapping[str, str]) -> None:
        """Gives people the ids that they have in the instance that the project was moved to."""
        self.members = {people.get(name, name): role for name, role in self.members.items()}
        self.tokens = {
            name: each._replace(holder=people.get(each.holder, each.holder))
            for name, each in self.tokens.items()
        }

    def _apply_to_device(self, recorded: Recorded) -> None:
        device = recorded.stream.removeprefix("device/")
        match recorded.event:
            case DeviceRegistered(secret_id=str(secret_id)):
                self.secrets[device] = {secret_id: None}
            case DeviceRegistered():
                self._count(recorded.actor)
            case DeviceKeyAccepted(_, secret_id):
                self.secrets[device] = {secret_id: None}
            case DeviceSecretIssued(secret_id, until):
                self._rotate(device, secret_id, until)
            case DeviceSecretRevoked() | DeviceDecommissioned():
                self.secrets.pop(device, None)

    def _apply_to_webhook(self, recorded: Recorded) -> None:
        webhook = recorded.stream.removeprefix("webhook/")
        match recorded.event:
            case WebhookAdded(target, types, models, notices):
                self.webhooks[webhook] = WebhookState(target, types, models, notices)
            case WebhookChanged() as changed:
                named = {name: getattr(changed, name) for name in WebhookState._fields}
                members = {name: each for name, each in named.items() if each is not UNSET}
                self.webhooks[webhook] = self.webhooks[webhook]._replace(**members)
            case WebhookRemoved():
                self.webhooks.pop(webhook, None)

    def _issue(self, issued: TokenIssued, actor: str) -> None:
        kind, _, name = actor.partition("/")
        issuer = self.tokens.get(name) if kind in ISSUERS else None
        expires_at_ms = None if issued.expires_at is None else time_ms(issued.expires_at)
        token = TokenState(
            issued.holder,
            issued.role,
            expires_at_ms,
            registers=issued.registers,
            model=issued.model,
            registers_max=issued.registers_max,
        )
        if issuer is not None:
            ends = [each for each in (expires_at_ms, issuer.expires_at_ms) if each is not None]
            token = token._replace(
                expires_at_ms=min(ends, default=None), is_revoked=issuer.is_revoked, issued_by=name
            )
        self.tokens[issued.token_id] = token

    def _count(self, actor: str) -> None:
        """Counts a device that an API token registered by naming it."""
        kind, _, name = actor.partition("/")
        if kind in ISSUERS and (token := self.tokens.get(name)) and token.registers:
            self.tokens[name] = token._replace(registered=token.registered + 1)

    def _revoke(self, token_id: str) -> None:
        """Ends the token and its descendants. A login is not among them: its end, which is
        recorded as well, changes nothing here.
        """
        ended = {token_id}
        for name, token in self.tokens.items():  # an issuer comes before the tokens it issued
            if name in ended or token.issued_by in ended:
                ended.add(name)
                self.tokens[name] = token._replace(is_revoked=True)

    def _rotate(self, device: str, secret_id: str, others_until: str | None) -> None:
        kept: dict[str, int | None] = {}
        if others_until is not None:
            until_ms = time_ms(others_until)
            kept = {
                name: until_ms if end is None else min(end, until_ms)
                for name, end in self.secrets.get(device, {}).items()
            }
        self.secrets[device] = {**kept, secret_id: None}
