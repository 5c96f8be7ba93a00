"""Declares the events of a project's members and their tokens."""

from firmtrail.events.event import Event


class MemberAdded(Event, frozen=True):
    """Records that a user became a member of the project."""

    member: str
    """The id of the user."""
    role: str
    """The role of the member."""


class MemberChanged(Event, frozen=True):
    """Records that a member got another role."""

    member: str
    """The id of the user."""
    role: str
    """The new role."""


class MemberRemoved(Event, frozen=True):
    """Records that a membership ended."""

    member: str
    """The id of the user."""


class TokenIssued(Event, frozen=True):
    """Records that a member got an API token."""

    token_id: str
    """The id of the token."""
    holder: str
    """The id of the user that the token belongs to."""
    role: str
    """The highest role that the token can use."""
    expires_at: str | None = None
    """The time at which the token ends."""
    registers: bool = False
    """Whether the token registers the unknown devices that it names."""
    model: str | None = None
    """The kind of hardware of the devices that it registers."""
    registers_max: int | None = None
    """The most devices that it registers."""


class TokenRevoked(Event, frozen=True):
    """Records that a token or a login ended before its time."""

    token_id: str
    """The id of the token or login."""


class UserErased(Event, frozen=True):
    """Records that a user's e-mail address, password and tokens were erased; the id stays."""

    user: str
    """The id of the user."""
