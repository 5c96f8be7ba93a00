"""Weak texts: the same work for whatever is wrong, limits before hashing, memory after."""

import asyncio
from collections.abc import Iterator

import pytest

from firmtrail.access import hashing
from firmtrail.access.hashing import Attempt, Hasher, TooManyAttempts, hash_text
from firmtrail.eventstore.database import Unavailable

COSTS = {"user": 4, "device": 4}
HASH = hash_text("AAA", 4)
DEVICE = Attempt("device", "acme/d1", "10.0.0.1")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really hashed: each text with bcrypt's cost."""
    work: list[str] = []
    original = hashing.matches

    def counting(text: str, hashed: str) -> bool:
        work.append(f"{text} {hashed[:7]}")
        return original(text, hashed)

    monkeypatch.setattr(hashing, "matches", counting)
    return work


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    hasher = Hasher(COSTS)
    yield hasher
    hasher.close()


async def test_the_text_that_was_hashed_is_recognised(hasher: Hasher) -> None:
    assert await hasher.verify(DEVICE, "AAA", await hasher.hash("device", "AAA"))
    assert not await hasher.verify(DEVICE, "AAB", await hasher.hash("device", "AAA"))


async def test_long_texts_differ_in_their_last_byte_too(hasher: Hasher) -> None:
    hashed = await hasher.hash("user", "x" * 99 + "y")
    user = Attempt("user", "a@b.example", "10.0.0.1")
    assert await hasher.verify(user, "x" * 99 + "y", hashed)
    assert not await hasher.verify(user, "x" * 100, hashed)


async def test_a_nul_or_no_utf8_is_a_text_like_any_other(hasher: Hasher) -> None:
    odd = b"a\x00\xff".decode(errors="surrogateescape")
    assert await hasher.verify(DEVICE, odd, hash_text(odd, 4))
    assert not await hasher.verify(DEVICE, "a", hash_text(odd, 4))


@pytest.mark.parametrize("stored", [HASH, None], ids=["wrong", "unknown"])
async def test_wrong_and_unknown_take_one_hash_of_the_same_cost(
    hasher: Hasher, hashed: list[str], stored: str | None
) -> None:
    assert not await hasher.verify(DEVICE, "wrong", stored)
    assert hashed == ["wrong $2b$04$"]


async def test_what_was_verified_is_not_hashed_again(hasher: Hasher, hashed: list[str]) -> None:
    for _ in range(3):
        assert await hasher.verify(DEVICE, "AAA", HASH)
    assert hashed == ["AAA $2b$04$"]


async def test_a_changed_secret_is_not_remembered(hasher: Hasher) -> None:
    assert await hasher.verify(DEVICE, "AAA", HASH)
    assert not await hasher.verify(DEVICE, "AAA", hash_text("BBB", 4))
    assert not await hasher.verify(DEVICE, "AAA", None)


async def test_one_good_text_presented_at_once_by_many_is_hashed_once(
    hasher: Hasher, hashed: list[str]
) -> None:
    attempts = [hasher.verify(DEVICE, "AAA", HASH) for _ in range(50)]
    assert all(await asyncio.gather(*attempts))
    assert hashed == ["AAA $2b$04$"]


@pytest.mark.parametrize("stored", [HASH, None], ids=["known", "unknown"])
async def test_after_twenty_failures_a_name_is_not_hashed_for(
    hasher: Hasher, hashed: list[str], stored: str | None
) -> None:
    attempts = [hasher.verify(DEVICE, f"guess {n}", stored) for n in range(40)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert outcomes.count(False) == len(hashed) == 20
    assert sum(isinstance(outcome, TooManyAttempts) for outcome in outcomes) == 20
    other = DEVICE._replace(name="acme/d2")
    assert await hasher.verify(other, "AAA", HASH)


async def test_a_limited_name_still_passes_with_what_was_verified_before(hasher: Hasher) -> None:
    assert await hasher.verify(DEVICE, "AAA", HASH)
    for n in range(20):
        assert not await hasher.verify(DEVICE, f"guess {n}", HASH)
    with pytest.raises(TooManyAttempts):
        await hasher.verify(DEVICE, "one more", HASH)
    assert await hasher.verify(DEVICE, "AAA", HASH)


async def test_successes_count_towards_no_limit(hasher: Hasher, hashed: list[str]) -> None:
    for n in range(20):
        assert await hasher.verify(DEVICE, f"good {n}", hash_text(f"good {n}", 4))
    assert len(hashed) == 20


async def test_an_address_is_limited_over_all_names(hasher: Hasher, hashed: list[str]) -> None:
    for n in range(300):
        assert not await hasher.verify(DEVICE._replace(name=f"acme/{n}"), "guess", None)
    with pytest.raises(TooManyAttempts):
        await hasher.verify(DEVICE._replace(name="acme/new"), "guess", None)
    assert not await hasher.verify(Attempt("device", "acme/new", "10.0.0.2"), "guess", None)
    assert len(hashed) == 301


async def test_more_than_can_be_hashed_soon_is_turned_away(
    hasher: Hasher, hashed: list[str]
) -> None:
    attempts = [
        hasher.verify(DEVICE._replace(name=f"acme/{n}"), "AAA", HASH)
        for n in range(hashing.WAITING_MAX * 2)
    ]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert outcomes.count(True) >= hashing.WAITING_MAX
    assert any(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert len(outcomes) == outcomes.count(True) + sum(
        isinstance(outcome, Unavailable) for outcome in outcomes
    )
