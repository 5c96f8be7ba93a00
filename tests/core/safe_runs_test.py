"""An error in another process arrives as it is, or as its text if its class can't cross."""

from multiprocessing import Pipe
from typing import Any

import pytest

from firmtrail.cli import workers
from firmtrail.database import messages
from firmtrail.database.database import Unavailable
from firmtrail.database.sqlite_process import run_safely


class Two(Exception):
    """Can be sent, and can't be received: its maker takes two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def _sent(error: Exception | None) -> Any:
    """Returns the error as it arrives in another process."""
    _, body = messages.encode(error)
    return messages.decode(body)


def _fail(error: Exception) -> None:
    raise error


def _local() -> Exception:
    class Local(Exception):
        pass

    return Local("the bucket is empty")


def test_an_error_arrives_as_it_is_with_its_frames() -> None:
    found, _ = run_safely(_fail, Unavailable("the disk is full"))
    arrived = _sent(found)
    assert isinstance(arrived, Unavailable)
    assert str(arrived) == "the disk is full"
    assert "in _fail" in arrived.__notes__[0]


@pytest.mark.parametrize(
    ("error", "text"),
    [(_local(), "Local: the bucket is empty"), (Two("one", "two"), "Two: one and two")],
    ids=["it can't be sent", "it can't be received"],
)
def test_the_text_of_an_error_arrives_whose_class_does_not(error: Exception, text: str) -> None:
    found, _ = run_safely(_fail, error)
    arrived = _sent(found)
    assert (type(arrived), str(arrived)) == (RuntimeError, text)
    assert "in _fail" in arrived.__notes__[0]


def test_a_server_that_can_not_be_prepared_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise _local()

    monkeypatch.setattr(workers, "_prepare_here", fail)
    here, there = Pipe(duplex=False)
    nothing: Any = None
    with here, there:
        workers._prepare_and_answer(nothing, nothing, there)
        assert here.poll()
        error, _ = here.recv()
    assert str(error) == "Local: the bucket is empty"
