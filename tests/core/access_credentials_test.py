"""Credentials and ids have the promised form; short texts without a prefix count as weak."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

import pytest

from firmtrail.access.credentials import digest, is_strong, new_id, new_secret, new_token


@pytest.mark.parametrize(("make", "prefix"), [(new_secret, "fts_"), (new_token, "ftt_")])
def test_an_issued_credential_has_a_prefix_and_256_random_bits(
    make: Callable[[], str], prefix: str
) -> None:
    issued = {make() for _ in range(100)}
    assert len(issued) == 100
    assert all(re.fullmatch(rf"{prefix}[A-Za-z0-9_-]{{43}}", text) for text in issued)
    assert all(is_strong(text) for text in issued)


@pytest.mark.parametrize(
    ("text", "strong"),
    [
        ("AAA", False),
        ("x" * 31, False),
        ("x" * 32, True),
        ("fts_short", True),
        ("ftt_", True),
        ("", False),
    ],
)
def test_short_texts_without_our_prefix_may_be_weak(text: str, strong: bool) -> None:
    assert is_strong(text) is strong


def test_a_digest_is_the_sha256_of_the_text() -> None:
    assert digest("ftt_ä") == sha256("ftt_ä".encode()).hexdigest()


def test_bytes_that_are_not_utf8_have_a_digest() -> None:
    assert digest(b"\xff".decode(errors="surrogateescape")) == sha256(b"\xff").hexdigest()


@pytest.mark.parametrize("prefix", ["u", "t", "k"])
def test_ids_of_people_and_credentials_name_their_kind_and_are_random(
    prefix: Literal["u", "t", "k"],
) -> None:
    ids = [new_id(prefix) for _ in range(100)]
    assert all(re.fullmatch(f"{prefix}_[0-9a-f]{{12}}4[0-9a-f]{{19}}", each) for each in ids)
    assert len({each[:10] for each in ids}) == 100
    assert ids != sorted(ids)


@pytest.mark.parametrize("prefix", ["r", "q"])
def test_ids_of_rollouts_and_asks_sort_by_age(prefix: Literal["r", "q"]) -> None:
    ids = [new_id(prefix) for _ in range(100)]
    assert ids == sorted(set(ids))
