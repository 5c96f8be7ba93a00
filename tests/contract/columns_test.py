"""The columns that the views declare are those of the migrated tables."""

from firmtrail.database.database import Database
from firmtrail.projections import (
    device_asks,
    device_current,
    device_offers,
    fold,
    releases,
    rollouts,
)
from firmtrail.rules.ask import Question
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offer
from firmtrail.rules.release import ReleaseState
from firmtrail.rules.rollout import Recent, RolloutState
from tests.databases import read

COLUMNS = {
    "sqlite": "SELECT name, lower(type) FROM pragma_table_info($1) ORDER BY name",
    "postgresql": """\
SELECT column_name, data_type
FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = $1
ORDER BY column_name""",
}


async def test_a_view_declares_the_columns_of_its_tables(db: Database, database_url: str) -> None:
    for table in (table for view in fold.VIEWS for table in view.TABLES):
        found = await read(db, COLUMNS[database_url.partition(":")[0]], table.name)
        declared = {name: column.sql for name, column in table.columns.items()}
        declared |= {"log_id": "bigint", "generation": "bigint"}
        assert dict(map(tuple, found)) == declared, table.name


def test_a_row_is_decoded_into_the_members_of_its_state_in_order() -> None:
    assert tuple(device_current.TABLE.columns) == DeviceState.__struct_fields__
    assert tuple(device_offers.OFFERS.columns) == Offer.__struct_fields__
    assert tuple(device_asks.TABLE.columns) == Question.__struct_fields__
    recent = tuple(f"recent_{name}" for name in Recent._fields)
    rollout = ("rollout", *RolloutState.__struct_fields__[1:], *recent)
    assert tuple(rollouts.TABLE.columns) == rollout
    assert (*releases.RELEASES.columns, "artifacts") == ReleaseState.__struct_fields__
