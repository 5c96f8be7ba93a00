"""Gives tests of credentials a clock that they set."""

from collections.abc import AsyncIterator

import pytest

from firmtrail.access.lookup import Access
from firmtrail.database.database import Database
from tests.people import add_project, new_access

NOW_MS = 1_800_000_000_000


class Clock:
    """Shows the time that a test sets."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> float:
        return self.ms / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def access(db: Database, clock: Clock) -> AsyncIterator[Access]:
    access = new_access(db, clock=clock)
    yield access
    access.hasher.close()


@pytest.fixture
async def acme(db: Database, access: Access) -> int:
    return await add_project(db, access, "acme")
