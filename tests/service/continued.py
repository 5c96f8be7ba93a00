"""Continues a log over HTTP for tests."""

from firmtrail.commands.continue_log import continue_log
from tests.publishing import ACME
from tests.service.site import Site


async def go_on(site: Site) -> tuple[int, str]:
    """Continues in a new log; returns the old one's size and its last checkpoint."""
    publisher = site.services.publisher
    assert publisher is not None
    await publisher.following.round()
    last = await publisher.served.newest_known(ACME)
    assert last is not None
    done = await continue_log(
        site.services.db, site.log_id, checkpoint=last.note, above=0, actor="system"
    )
    await publisher.following.round()
    return done.size, last.note
