"""What happens to the members of a project and to their tokens."""

from firmtrail.events.event import Event


class MemberAdded(Event, frozen=True):
    member: str
    role: str


class MemberChanged(Event, frozen=True):
    member: str
    role: str


class MemberRemoved(Event, frozen=True):
    member: str


class TokenIssued(Event, frozen=True):
    token_id: str
    holder: str
    role: str
    expires_at: str | None = None


class TokenRevoked(Event, frozen=True):
    token_id: str


class UserErased(Event, frozen=True):
    """The user's e-mail address, password and tokens are gone; the id stays."""

    user: str
