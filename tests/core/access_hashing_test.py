"""A weak text costs the same work whatever is wrong with it; limits come before hashing, and a
verified text is remembered.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator

import pytest
from cachetools import TTLCache

from firmtrail.access import hashing
from firmtrail.access.hashing import CredentialAttempt, Hasher, TooManyAttempts, hash_text
from firmtrail.database.database import Unavailable

COSTS = {"user": 4, "device": 4}
HASH = hash_text("AAA", 4)
DEVICE = CredentialAttempt("device", "acme/d1", "10.0.0.1")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the list of texts that were really hashed, each with bcrypt's cost."""
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
    user = CredentialAttempt("user", "a@b.example", "10.0.0.1")
    assert await hasher.verify(user, "x" * 99 + "y", hashed)
    assert not await hasher.verify(user, "x" * 100, hashed)


async def test_a_text_may_contain_a_nul_or_bytes_that_are_not_utf8(hasher: Hasher) -> None:
    odd = b"a\x00\xff".decode(errors="surrogateescape")
    assert await hasher.verify(DEVICE, odd, hash_text(odd, 4))
    assert not await hasher.verify(DEVICE, "a", hash_text(odd, 4))


@pytest.mark.parametrize("stored", [HASH, None], ids=["wrong", "unknown"])
async def test_wrong_and_unknown_take_one_hash_of_the_same_cost(
    hasher: Hasher, hashed: list[str], stored: str | None
) -> None:
    assert not await hasher.verify(DEVICE, "wrong", stored)
    assert hashed == ["wrong $2b$04$"]


async def test_a_verified_text_is_not_hashed_again(hasher: Hasher, hashed: list[str]) -> None:
    for _ in range(3):
        assert await hasher.verify(DEVICE, "AAA", HASH)
    assert hashed == ["AAA $2b$04$"]


async def test_a_changed_secret_is_not_remembered(hasher: Hasher) -> None:
    assert await hasher.verify(DEVICE, "AAA", HASH)
    assert not await hasher.verify(DEVICE, "AAA", hash_text("BBB", 4))
    assert not await hasher.verify(DEVICE, "AAA", None)


async def test_a_valid_text_presented_many_times_in_parallel_is_hashed_once(
    hasher: Hasher, hashed: list[str]
) -> None:
    attempts = [hasher.verify(DEVICE, "AAA", HASH) for _ in range(50)]
    assert all(await asyncio.gather(*attempts))
    assert hashed == ["AAA $2b$04$"]


@pytest.mark.parametrize("stored", [HASH, None], ids=["known", "unknown"])
async def test_after_twenty_failures_nothing_is_hashed_for_a_name(
    hasher: Hasher, hashed: list[str], stored: str | None
) -> None:
    attempts = [hasher.verify(DEVICE, f"guess {n}", stored) for n in range(40)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert outcomes.count(False) == len(hashed) == 20
    assert sum(isinstance(outcome, TooManyAttempts) for outcome in outcomes) == 20
    other = DEVICE._replace(name="acme/d2")
    assert await hasher.verify(other, "AAA", HASH)


async def test_a_limited_name_still_passes_with_a_remembered_text(hasher: Hasher) -> None:
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
    assert not await hasher.verify(
        CredentialAttempt("device", "acme/new", "10.0.0.2"), "guess", None
    )
    assert len(hashed) == 301


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Makes every guess wait in its thread until the event is set."""
    released, original = threading.Event(), hashing.matches

    def waiting(text: str, hashed: str) -> bool:
        if text == "guess":
            released.wait(10)
        return original(text, hashed)

    monkeypatch.setattr(hashing, "matches", waiting)
    yield released
    released.set()


async def flood(hasher: Hasher, attempts: Iterable[CredentialAttempt]) -> list[asyncio.Task[bool]]:
    """Starts all guesses in parallel; returns when every guess has a place or was refused."""
    tasks = [asyncio.create_task(hasher.verify(each, "guess", None)) for each in attempts]
    for _ in range(20):
        await asyncio.sleep(0.005)
    return tasks


def addresses(count: int) -> list[str]:
    return [f"10.0.{number // 250}.{number % 250}" for number in range(count)]


async def test_attempts_beyond_the_queue_are_turned_away(hasher: Hasher, hashed: list[str]) -> None:
    attempts = [
        hasher.verify(CredentialAttempt("device", f"acme/{address}", address), "AAA", HASH)
        for address in addresses(hashing.WAITING_MAX * 2)
    ]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    places = hashing.WAITING_MAX - hashing.WAITING_FOR_KNOWN
    assert outcomes.count(True) >= places
    assert any(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert len(outcomes) == outcomes.count(True) + sum(
        isinstance(outcome, Unavailable) for outcome in outcomes
    )


async def test_one_address_gets_only_some_of_the_places(
    hasher: Hasher, stuck: threading.Event
) -> None:
    names = range(hashing.WAITING_MAX * 2)
    tasks = await flood(hasher, [DEVICE._replace(name=f"acme/{n}") for n in names])
    other = asyncio.create_task(
        hasher.verify(CredentialAttempt("user", "a@b.example", "10.0.0.2"), "AAA", HASH)
    )
    await asyncio.sleep(0.01)
    stuck.set()
    assert await other
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes.count(False) == hashing.WAITING_OF_ADDRESS_MAX


async def test_an_address_that_verified_a_text_finds_a_place_in_a_flood(
    hasher: Hasher, stuck: threading.Event
) -> None:
    person = CredentialAttempt("user", "a@b.example", "192.0.2.1")
    assert await hasher.verify(person, "AAA", HASH)
    strangers = addresses(hashing.WAITING_MAX * 2)
    tasks = await flood(
        hasher, [CredentialAttempt("user", f"{each}@b.example", each) for each in strangers]
    )
    with pytest.raises(Unavailable):
        await hasher.verify(CredentialAttempt("user", "new@b.example", "192.0.2.2"), "other", None)
    again = asyncio.create_task(hasher.verify(person, "BBB", hash_text("BBB", 4)))
    await asyncio.sleep(0.01)
    stuck.set()
    assert await again
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_flood_of_unauthenticated_callers_keeps_no_operator_waiting(
    hasher: Hasher, stuck: threading.Event
) -> None:
    strangers = addresses(hashing.WAITING_MAX * 2)
    tasks = await flood(
        hasher, [CredentialAttempt("user", f"{each}@b.example", each) for each in strangers]
    )
    hashed = await hasher.hash("device", "short", "operators")
    stuck.set()
    assert hashing.matches("short", hashed)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_flood_of_one_operator_keeps_no_local_command_waiting(hasher: Hasher) -> None:
    tasks = [
        asyncio.create_task(hasher.hash("device", f"short {n}", "operators"))
        for n in range(hashing.WAITING_MAX * 2)
    ]
    await asyncio.sleep(0)
    assert hashing.matches("short", await hasher.hash("user", "short", "local"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(outcome, Unavailable) for outcome in outcomes)


async def test_guesses_from_one_address_lock_out_no_other_address(hasher: Hasher) -> None:
    person = CredentialAttempt("user", "a@b.example", "192.0.2.1")
    stranger = person._replace(address="198.51.100.7")
    for n in range(20):
        assert not await hasher.verify(stranger, f"guess {n}", HASH)
    with pytest.raises(TooManyAttempts):
        await hasher.verify(stranger, "AAA", HASH)
    assert await hasher.verify(person, "AAA", HASH)


async def test_a_name_attacked_from_many_addresses_is_delayed_and_not_locked(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "DELAY_S", 0.1)
    for address in addresses(60):
        assert not await hasher.verify(
            CredentialAttempt("user", "a@b.example", address), "guess", HASH
        )
    began = asyncio.get_running_loop().time()
    assert await hasher.verify(CredentialAttempt("user", "a@b.example", "192.0.2.1"), "AAA", HASH)
    assert asyncio.get_running_loop().time() - began >= 0.1


async def test_attempts_of_devices_do_not_count_for_people(hasher: Hasher) -> None:
    for n in range(300):
        assert not await hasher.verify(DEVICE._replace(name=f"acme/{n}"), "guess", None)
    with pytest.raises(TooManyAttempts):
        await hasher.verify(DEVICE._replace(name="acme/new"), "AAA", HASH)
    assert await hasher.verify(
        CredentialAttempt("user", "a@b.example", DEVICE.address), "AAA", HASH
    )


async def test_all_addresses_of_an_ipv6_site_count_as_one(hasher: Hasher) -> None:
    for n in range(20):
        attempt = DEVICE._replace(address=f"2001:db8::{n:x}")
        assert not await hasher.verify(attempt, "guess", HASH)
    with pytest.raises(TooManyAttempts):
        await hasher.verify(DEVICE._replace(address="2001:db8::ffff"), "AAA", HASH)
    assert await hasher.verify(DEVICE._replace(address="2001:db8:0:1::1"), "AAA", HASH)


async def test_guesses_of_strong_texts_are_counted_for_each_address(hasher: Hasher) -> None:
    for _ in range(300):
        await hasher.count_guess("device", "2001:db8::1")
    with pytest.raises(TooManyAttempts):
        await hasher.count_guess("device", "2001:db8::2")
    await hasher.count_guess("device", "2001:db8:0:1::1")
    await hasher.count_guess("user", "2001:db8::1")


async def test_counts_are_bounded(hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "COUNTS_MAX", 10)
    for address in addresses(100):
        await hasher.count_guess("device", address)
    assert len(hasher._strong._storage.storage) <= 10


async def test_a_text_in_use_stays_remembered(hasher: Hasher, hashed: list[str]) -> None:
    now = [0.0]
    hasher._remembered = TTLCache(10, hashing.REMEMBERED_S, timer=lambda: now[0])
    for _ in range(5):
        assert await hasher.verify(DEVICE, "AAA", HASH)
        now[0] += hashing.REMEMBERED_S - 1
    assert len(hashed) == 1
    now[0] += 2
    assert await hasher.verify(DEVICE, "AAA", HASH)
    assert len(hashed) == 2
