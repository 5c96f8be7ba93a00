"""A move takes only rows that the project's log records, and leaves none of them out."""

import pytest

from firmtrail.access import people, projects
from firmtrail.moving import arrival, check, rows
from tests.contract.moving import Move
from tests.databases import read, write

PLANTED = {
    "members": "INSERT INTO members (project, actor_id, role) VALUES ('acme', 'u_x', 'admin')",
    "tokens": "INSERT INTO tokens (project, digest, token_id, actor_id, role, name, created_at_ms) "
    "VALUES ('acme', 'd', 't_x', 'u_x', NULL, 'x', 1)",
    "webhooks": "INSERT INTO webhooks (project, webhook_id, url, notices, description, enabled, "
    "secret, created_at_ms, revision, log_id, position) "
    "SELECT project, 'w_x', url, notices, description, enabled, secret, created_at_ms, revision, "
    "log_id, 0 FROM webhooks",
}


@pytest.mark.parametrize("table", PLANTED)
async def test_a_row_that_the_log_does_not_record_is_found(move: Move, table: str) -> None:
    await check.check_access(await move.originals())
    await write(move.source, PLANTED[table])
    with pytest.raises(check.BadAccess, match=rf"{table} \(._x\): is .* does not record it"):
        await check.check_access(await move.originals())


@pytest.mark.parametrize("column", ["digest", "token_id"])
async def test_a_token_that_the_other_instance_has_is_not_left_out(move: Move, column: str) -> None:
    [token, *_] = await read(
        move.source, "SELECT digest, token_id FROM tokens WHERE project = 'acme'"
    )
    taken = {"digest": "d", "token_id": "t_x"} | {column: token[column == "token_id"]}
    text = "INSERT INTO tokens (digest, token_id, actor_id, name, created_at_ms) "
    await write(move.target, text + "VALUES ($1, $2, 'u_x', 'x', 1)", *taken.values())
    _, arriving = await move.arrive()
    with pytest.raises(rows.LeftOut, match="of tokens"):
        await arrival.activate(move.target, arriving)
    assert await projects.newest_log(move.target, "acme") is None
    assert await read(move.target, "SELECT project FROM members") == []


async def test_two_members_do_not_become_one(move: Move) -> None:
    members = await people.of_project(move.source, "acme")
    boss = next(each for each in members if each.email == "boss@example.org")
    other = next(each for each in members if each is not boss)
    async with move.target.transaction() as tx:
        await tx.run(people.ensure(other.actor_id, "boss@example.org", 5))
    _, arriving = await move.arrive()
    with pytest.raises(rows.LeftOut, match="of members"):
        await arrival.activate(move.target, arriving)
