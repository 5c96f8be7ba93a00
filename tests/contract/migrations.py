"""Runs statements outside a transaction for tests of migrations."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence

import asyncpg


async def run_outside(url: str, *texts: str) -> None:
    """Runs statements as a foreign program would."""
    if url.startswith("sqlite"):
        await asyncio.to_thread(_run_in_file, url.removeprefix("sqlite:///"), texts)
        return
    postgres = await asyncpg.connect(url)
    async with postgres.transaction():
        for text in texts:
            await postgres.execute(text)
    await postgres.close()


def _run_in_file(path: str, texts: Sequence[str]) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for text in texts:
            connection.execute(text)
