"""Shares the queries that many requests make at the same time."""

from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Database
from firmtrail.projections import check_in, device_current, device_history
from firmtrail.projections.history_pages import Histories

type DeviceKey = tuple[int, str]
"""A log's id and a device's name."""


class Queries:
    """Answers requests from the views; requests that wait for the same query share the next one."""

    def __init__(self, db: Database) -> None:
        self.devices = Coalescer(db, device_current.load_live)
        """Reads a device's row of the view."""
        self.histories = Histories(db)
        self.check_ins: Coalescer[DeviceKey] = Coalescer(db, check_in.load)
        """Reads what a check-in needs to know of a device."""
        self.polling: Coalescer[DeviceKey] = Coalescer(db, check_in.load_polling)
        """Reads what a poll in a protocol made by others needs to know of a device."""
        self.saying: Coalescer[DeviceKey] = Coalescer(db, check_in.load_saying)
        """Reads the same, and what the device says of itself."""
        self.zones: Coalescer[DeviceKey] = Coalescer(db, check_in.load_zones)
        """Reads the time zone that a device says it is in."""
        self.ways_back = Coalescer(db, device_history.runs)
        """Reads what a device ran before a bad version, as of a size of the log."""
