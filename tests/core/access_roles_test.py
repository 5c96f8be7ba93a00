"""Each role has its permissions, and a token never has more than its holder."""

import itertools

import pytest

from firmtrail.access.roles import EVERYTHING, NOTHING, PERMISSIONS, ROLES, effective
from firmtrail.http.callers import Permission


def test_every_role_has_permissions_and_routes_use_the_same_words() -> None:
    assert PERMISSIONS.keys() == set(ROLES)
    assert set(Permission) == EVERYTHING


def test_roles_grow_from_viewer_over_operator_to_admin() -> None:
    assert PERMISSIONS["viewer"] < PERMISSIONS["operator"] < PERMISSIONS["admin"]


def test_an_auditor_reads_what_a_viewer_reads_and_the_log() -> None:
    assert PERMISSIONS["auditor"] == PERMISSIONS["viewer"] | {"audit"}


def test_a_gateway_may_only_report() -> None:
    assert PERMISSIONS["gateway"] == {"report"}


@pytest.mark.parametrize(("member", "token"), list(itertools.product(ROLES, ROLES)))
def test_a_token_has_the_permissions_that_its_role_and_its_holder_share(
    member: str, token: str
) -> None:
    assert effective(member, token) == PERMISSIONS[member] & PERMISSIONS[token]


@pytest.mark.parametrize("member", ROLES)
def test_a_login_has_the_permissions_of_the_member(member: str) -> None:
    assert effective(member, None) == PERMISSIONS[member]


@pytest.mark.parametrize("token", [None, *ROLES])
def test_a_non_member_has_no_permissions(token: str | None) -> None:
    assert effective(None, token) == NOTHING
