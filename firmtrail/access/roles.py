"""What may a role do?"""

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
    """What a token may do: never more than its holder may at this moment.

    `token_role` is None for a login, which acts with the member's own role; `member_role` is None
    for who is no member (any more).
    """
    if member_role is None:
        return NOTHING
    held = PERMISSIONS[member_role]
    return held if token_role is None else held & PERMISSIONS[token_role]
