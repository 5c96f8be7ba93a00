"""A fold from the log reports an entry that it can't decode."""

import pytest

from firmtrail.database.database import TURN
from firmtrail.eventstore import log
from firmtrail.projections import fold
from firmtrail.projections.steering_fold import SteeringFold
from firmtrail.rebuilding import refold


@pytest.mark.parametrize("text", ["", "{}", '{"type":"firmtrail.Nothing.v1"}'])
def test_an_entry_that_can_not_be_decoded_is_named_by_its_position(text: str) -> None:
    generations = dict.fromkeys(fold.REVISIONS, 1)
    script = refold.fold_entries(1, generations, [(7, 0, text)], {}, before=SteeringFold())
    assert next(script) is TURN
    with pytest.raises(log.Corrupt, match="position 7 is not an entry"):
        script.send([])
