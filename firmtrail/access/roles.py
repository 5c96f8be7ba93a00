"""Defines the roles and their permissions."""

from typing import Literal, get_args

type Role = Literal["viewer", "operator", "admin", "auditor", "gateway"]
type Permissions = frozenset[str]

ROLES: tuple[Role, ...] = get_args(Role.__value__)
NOTHING: Permissions = frozenset()
EVERYTHING: Permissions = frozenset({"read", "report", "operate", "audit", "administer"})

PERMISSIONS: dict[str, Permissions] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "report", "operate"}),
    "auditor": frozenset({"read", "audit"}),
    "admin": EVERYTHING,
    "gateway": frozenset({"report"}),
}


def effective(member_role: str | None, token_role: str | None) -> Permissions:
    """Returns the permissions of a token: never more than its holder has. `token_role` is None for
    a login, `member_role` for a user who is not a member."""
    if member_role is None:
        return NOTHING
    of_member = PERMISSIONS[member_role]
    return of_member if token_role is None else of_member & PERMISSIONS[token_role]
