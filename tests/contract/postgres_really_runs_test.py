"""Without this, a suite that met only SQLite could look green."""

import asyncpg

from tests.postgres_server import PostgresServer


async def test_the_server_that_tests_meet_is_a_real_postgresql(postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.create_database("canary"))
    try:
        assert (await connection.fetchval("SELECT version()")).startswith("PostgreSQL ")
    finally:
        await connection.close()
