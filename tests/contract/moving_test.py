"""Moves a database's project to another database of the same kind, by the steps of the command."""

from pathlib import Path
from typing import Any

import pytest

from firmtrail.access import people, projects
from firmtrail.commands import move_project
from firmtrail.commands.erase_user import erase_user
from firmtrail.database.database import Database, LogUnavailable
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.eventstore import lineage, log, merkle, moving
from firmtrail.moving import arrival, check, logs, rows
from firmtrail.moving.arrival import Arriving, GivenUp, Taken, UsedThere
from firmtrail.publishing import arrivals, signing_key
from firmtrail.publishing.checkpoint import key_line
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.publishing.signer import Signer
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import Refused
from tests.contract.moving import WANTED, Move, nothing, wrong
from tests.databases import read, write
from tests.fleet import report
from tests.people import add_project, new_access

OWN_TABLES = {"projects", "log_heads", "access_heads"}
"""Tables with a column `project` that are copied in another way."""


async def all_rows(db: Database, table: rows.ProjectTable) -> list[list[Any]]:
    found = [row async for page in rows.pages(db, table, "acme") for row in page]
    return [[*row] for row in found]


async def test_everything_of_a_project_is_there_afterwards(
    move: Move, database_url: str, other_url: str
) -> None:
    end, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    await arrival.activate(move.target, arriving)  # once more: nothing is left to do
    began, there = [await projects.newest_log(db, "acme") for db in (move.source, move.target)]
    assert began is not None
    assert there == (arriving.log_id, began[1])
    copies = arriving.copies
    for old_id, new_id in copies.items():
        old, new = await log.head(move.source, old_id), await log.head(move.target, new_id)
        assert new == old._replace(log_id=new_id, now_ms=new.now_ms)
        for table in ("events", "texts", "subtrees", "checkpoints"):
            text = f"SELECT * FROM {table} WHERE log_id = $1 ORDER BY 1, 2, 3"
            stored = [list(row)[1:] for row in await read(move.source, text, old_id)]
            assert [list(row)[1:] for row in await read(move.target, text, new_id)] == stored
    place = rows.WEBHOOKS.names.index("log_id")
    for each in rows.TABLES:
        expected, found = await all_rows(move.source, each), await all_rows(move.target, each)
        if each is rows.WEBHOOKS:
            for row in expected:
                row[place] = copies[row[place]]
        assert found == expected, each.name
    assert all([await all_rows(move.source, table) for table in rows.TABLES[:5]])
    [key] = await read(move.target, "SELECT actor_id, key, log_id FROM idempotency_keys")
    assert [*key] == ["u", "k", copies[end.head.log_id]]
    for url in (database_url, other_url):
        for verify in (True, False):
            assert await wrong(url, verify=verify) == []


async def test_a_person_with_another_id_there_keeps_role_and_tokens(
    move: Move, other_url: str
) -> None:
    async with move.target.transaction() as tx:
        await tx.run(people.ensure("u_there", "boss@example.org", 5))
    [[boss]] = await read(
        move.source, "SELECT actor_id FROM users WHERE email = 'boss@example.org'"
    )
    [other] = await arrival.others_there(move.source, move.target, "acme")
    assert other.actor_id == boss
    _, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    [arrived] = await arrivals.of_project(move.target, "acme")
    assert arrived.people == {boss: "u_there"}
    assert await people.role_of(move.target, "acme", "u_there") == "admin"
    assert await people.role_of(move.target, "acme", boss) is None
    [[tokens]] = await read(move.target, "SELECT count(*) FROM tokens WHERE actor_id = 'u_there'")
    assert tokens == 1
    assert await wrong(other_url, verify=False) == []


async def test_a_closed_log_takesnothing_until_the_move_is_undone(move: Move) -> None:
    end = await move.stop()
    again = await move.stop()
    assert (again.note, again.key, again.head.size) == (end.note, end.key, end.head.size)
    for _ in range(2):
        outcomes = await _refused_report(move)
        assert "closed" in outcomes
    other = ProjectMoveStarted("us", WANTED.address)
    with pytest.raises(Refused, match="is moved to eu"):
        await move_project.start(
            move.source, move.recorder, move.log_id, wanted=other, actor="system"
        )
    await move_project.finish(move.source, move.log_id)
    await move_project.undo(move.source, move.log_id, MinimumSizes(), "system")
    with pytest.raises(Refused, match="not being moved"):
        await move_project.undo(move.source, move.log_id, MinimumSizes(), "system")
    await move.recorder.report(move.log_id, [report("1.0.0", device="d2", seq=77)])


async def _refused_report(move: Move) -> str:
    with pytest.raises(LogUnavailable) as raised:
        await move.recorder.report(move.log_id, [report("1.0.0", device="d2", seq=77)])
    return str(raised.value)


async def test_a_person_is_erased_from_a_project_that_moved_away(
    move: Move, database_url: str
) -> None:
    _, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    text = "SELECT actor_id FROM users WHERE email = 'boss@example.org'"
    [[boss]] = await read(move.source, text)
    with pytest.raises(LogUnavailable):  # as long as the move is not over
        await erase_user(move.source, move.recorder, boss, actor="system")
    await move_project.finish(move.source, move.log_id)
    await erase_user(move.source, move.recorder, boss, actor="system")
    assert await read(move.source, text) == []
    assert await wrong(database_url, verify=False) == []


async def test_a_move_that_was_given_up_never_begins_there(move: Move) -> None:
    end, arriving = await move.arrive()
    await arrival.give_up(move.target, end.head, "eu")
    await arrival.give_up(move.target, end.head, "eu")
    with pytest.raises(GivenUp):
        await arrival.activate(move.target, arriving)
    with pytest.raises(GivenUp):
        await arrival.prepare(move.target, end.head, arriving.copies[end.head.log_id])
    assert await projects.newest_log(move.target, "acme") is None


async def test_an_undo_that_is_first_keeps_a_move_from_beginning(move: Move) -> None:
    end = await move.stop()
    await arrival.give_up(move.target, end.head, "eu")
    copies = await move.copy()
    with pytest.raises(GivenUp):
        await arrival.prepare(move.target, end.head, copies[end.head.log_id])


async def test_a_project_that_has_begun_goes_back_only_unused(
    move: Move, database_url: str, other_url: str
) -> None:
    end, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    await arrival.give_up(move.target, end.head, "eu")
    assert await projects.newest_log(move.target, "acme") is None
    for table in rows.TABLES:
        assert await all_rows(move.target, table) == [] or table is rows.ACCESS_RECORD
    await move_project.undo(move.source, move.log_id, move.recorder.minimum_sizes, "system")
    await move.recorder.report(move.log_id, [report("1.0.0", device="d2", seq=77)])
    end, arriving = await move.arrive()  # again, with what was recorded since
    await arrival.activate(move.target, arriving)
    recorder = Recorder(move.target)
    [receipt] = await recorder.report(arriving.log_id, [report("1.0.0", device="d2", seq=77)])
    assert (receipt.log, receipt.duplicate) == (2, True)  # type: ignore[union-attr] # no refusal
    await recorder.report(arriving.log_id, [report("1.0.0", device="d2", seq=78)])
    await recorder.close()
    with pytest.raises(UsedThere):
        await arrival.give_up(move.target, end.head, "eu")
    for url in (database_url, other_url):
        for verify in (True, False):
            assert await wrong(url, verify=verify) == []


async def test_another_project_of_that_name_is_left_alone(move: Move) -> None:
    _, arriving = await move.arrive()
    async with move.target.transaction() as tx:
        await tx.run(projects.reserve("acme"), projects.set_log("acme", 999))
    with pytest.raises(Taken):
        await arrival.activate(move.target, arriving)


async def test_a_log_with_other_events_is_no_beginning_of_a_copy(move: Move) -> None:
    access = new_access(move.target)
    await add_project(move.target, access, "acme")
    access.hasher.close()
    [head] = await log.logs(move.source, "acme", after=0, limit=1)
    with pytest.raises(logs.OtherLog):
        await logs.check_beginning(move.source, move.target, head)


async def test_a_copy_that_differs_is_found(move: Move) -> None:
    end, copies = await move.stop(), await move.copy()
    await move.check()
    text = "DELETE FROM texts WHERE log_id = $1 AND position > 20"
    await write(move.target, text, copies[end.head.log_id])
    await write(move.target, text, min(copies.values()))
    with pytest.raises(check.BadCopy, match="its text is missing"):
        await move.check()


async def test_a_moved_log_is_signed_by_nobody_there(move: Move, tmp_path: Path) -> None:
    end, copies = await move.stop(), await move.copy()
    key = tmp_path / "eu.key"
    signing_key.create(key)
    signer = Signer("eu", signing_key.read(key))
    there = Publisher(
        move.target, MinimumSizes(), signer, CheckpointFile(tmp_path / "eu.checkpoints")
    )
    text = "SELECT count(*) FROM checkpoints WHERE note LIKE 'eu/%'"
    await there.check()
    await there.following.round()  # the logs have arrived, and the project has not
    log_id = await arrival.prepare(move.target, end.head, copies[end.head.log_id])
    await arrival.fold_views(move.target, log_id, nothing)
    await there.following.round()
    [[signed]] = await read(move.target, text)
    assert signed == 0
    await arrival.activate(move.target, Arriving(move.source, end, log_id, copies))
    await there.following.round()
    assert there.following.problem is None
    [last] = [await there.served.latest(log_id)]
    assert last is not None
    assert last.note.startswith("eu/acme/3\n2\n")
    name = LogName("acme", end.head.number)
    assert key_line(await there.served.verifier(name)) == end.key
    copy_id = copies[end.head.log_id]
    assert (await there.served.at_size(copy_id, name, end.head.size)) is not None
    assert (await there.served.at_size(copy_id, name, 2)) is None


async def test_a_copy_that_ended_early_is_continued(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move.stop()
    [first, *_] = await log.logs(move.source, "acme", after=0, limit=10)
    monkeypatch.setattr(moving, "PAGE_ENTRIES", 100)

    def stop(entries: int) -> None:
        if entries == 100:
            raise InterruptedError

    for _ in range(2):
        with pytest.raises(InterruptedError):
            await logs.copy(move.source, move.target, first, stop)
    copies = await move.copy()
    copied = await log.head(move.target, copies[first.log_id])
    assert merkle.root(copied.frontier) == merkle.root(first.frontier)
    parts = await move.target.read(lineage.segments(copies[move.log_id]))
    assert [(part.number, part.size) for part in lineage.segments_of(parts)] == [(1, first.size)]


COLUMNS = {
    "sqlite": """\
SELECT tables.name, columns.name
FROM sqlite_master AS tables
JOIN pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table'""",
    "postgresql": """\
SELECT columns.table_name, columns.column_name
FROM information_schema.columns AS columns
JOIN information_schema.tables AS tables
    ON tables.table_schema = columns.table_schema AND tables.table_name = columns.table_name
WHERE columns.table_schema = current_schema() AND tables.table_type = 'BASE TABLE'""",
}


async def test_every_table_of_a_project_is_copied_with_all_its_columns(
    db: Database, database_url: str
) -> None:
    found: dict[str, set[str]] = {}
    for table, column in await read(db, COLUMNS[database_url.partition(":")[0]]):
        found.setdefault(table, set()).add(column)
    declared = {table.name: {"project", *table.names, *table.left_out} for table in rows.TABLES}
    of_projects = {name for name, columns in found.items() if "project" in columns}
    assert of_projects - OWN_TABLES == declared.keys()
    assert {name: found[name] for name in declared} == declared
    keys = {each.split()[0] for each in rows.KEY_COLUMNS.split(", ")}
    assert found["idempotency_keys"] == keys
