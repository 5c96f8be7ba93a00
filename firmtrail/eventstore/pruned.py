"""Says which entries of a log were pruned: those of devices, up to a size of the log."""

from firmtrail.database.database import Reader, Statement

_DEVICES = "device/"

_SIZE = "SELECT size FROM pruned WHERE log_id = $1 LIMIT 1"


def is_prunable(stream: str) -> bool:
    """Returns whether entries of this stream are pruned. The triggers of `events` have the same
    rule (0016_pruned)."""
    return stream.startswith(_DEVICES)


async def pruned_size(reader: Reader, log_id: int) -> int:
    """Returns how far a log is pruned."""
    rows = await reader.read(Statement(_SIZE, (log_id,)))
    return int(rows[0][0]) if rows else 0
