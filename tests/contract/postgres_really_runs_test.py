"""Makes sure that the suite can't pass with SQLite only."""

import asyncpg

from tests.postgres_server import PostgresServer


async def test_the_tests_use_a_real_postgresql(postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.create_database("canary"))
    try:
        assert (await connection.fetchval("SELECT version()")).startswith("PostgreSQL ")
    finally:
        await connection.close()
