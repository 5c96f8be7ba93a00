"""Declares the events of a project's members and their tokens."""

from firmtrail.events.event import Event


class MemberAdded(Event, frozen=True):
    """Records that a user became a member of the project."""

    member: str
    role: str


class MemberChanged(Event, frozen=True):
    """Records that a member got another role."""

    member: str
    role: str


class MemberRemoved(Event, frozen=True):
    """Records that a membership ended."""

    member: str


class TokenIssued(Event, frozen=True):
    """Records that a member got an API token."""

    token_id: str
    holder: str
    role: str
    expires_at: str | None = None


class TokenRevoked(Event, frozen=True):
    """Records that a token or a login ended before its time."""

    token_id: str


class UserErased(Event, frozen=True):
    """Records that a user's e-mail address, password and tokens were erased; the id stays."""

    user: str
