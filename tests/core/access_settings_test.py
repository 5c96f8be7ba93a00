"""A project's settings are the fold of its SettingsChanged events."""

from firmtrail.access.settings import fold
from firmtrail.events.access import MemberAdded
from firmtrail.events.fleet import SettingsChanged
from firmtrail.rules.settings import INITIAL, Settings, evolve


def test_a_new_project_offers_nothing_automatically() -> None:
    assert (
        fold([])
        == INITIAL
        == Settings(follow_latest=False, poll_after_s=300, max_attempts=3, public_checkpoint=False)
    )


def test_a_change_sets_only_the_settings_that_it_names() -> None:
    changed = evolve(INITIAL, SettingsChanged(poll_after_s=60, follow_latest=True))
    assert changed == Settings(follow_latest=True, poll_after_s=60)


def test_the_last_change_counts_and_other_events_do_not() -> None:
    history = [
        SettingsChanged(max_attempts=5),
        MemberAdded("u_1", "admin"),
        SettingsChanged(max_attempts=4, follow_latest=False),
    ]
    assert fold(history) == Settings(max_attempts=4)
