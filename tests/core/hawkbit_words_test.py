"""Tests what each feedback of hawkBit's clients means, by the messages that real clients send."""

from typing import Any

import msgspec
import pytest

from firmtrail.http.scalars import TEXT_BYTES_MAX
from firmtrail.protocols.hawkbit.feedback import detail_of, word
from firmtrail.protocols.hawkbit.shapes import FeedbackStatus


def status(execution: str, finished: str = "none", **members: Any) -> FeedbackStatus:
    result = {"finished": finished, "progress": members.pop("progress", None)}
    sent = {"execution": execution, "result": result, **members}
    return msgspec.convert(sent, FeedbackStatus)


SAID: list[tuple[FeedbackStatus, str]] = [
    # SWUpdate: before it loads, its log, a part, all parts, and after the reboot.
    (status("proceeding", progress={"cnt": 0, "of": 1}), "downloading"),
    (status("proceeding", progress={"cnt": 0, "of": 0}), "installing"),
    (status("proceeding", progress={"cnt": 1, "of": 2}), "installing"),
    (status("proceeding", progress={"cnt": 1, "of": 1}), "rebooting"),
    (status("closed", "success", progress={"cnt": 0, "of": 0}), "installed"),
    (status("closed", "failure"), "failed"),
    (status("closed", "success", details=["Skipped Update."]), "nothing"),
    # RAUC: messages without progress; its Python client says percentages.
    (status("proceeding", details=["Download complete."]), "installing"),
    (status("proceeding", progress={"percentage": 40}), "installing"),
    # Zephyr.
    (status("closed", "success"), "installed"),
    (status("closed", "none"), "installed"),
    # Others of the protocol.
    (status("download"), "downloading"),
    (status("scheduled"), "downloading"),
    (status("resumed"), "downloading"),
    (status("downloaded"), "downloaded"),
    (status("rejected"), "rejected"),
    (status("canceled"), "nothing"),
    (status("proceeding", progress={"cnt": "0", "of": [1]}), "installing"),
]


@pytest.mark.parametrize(("said", "meant"), SAID)
def test_what_a_feedback_means(said: FeedbackStatus, meant: str) -> None:
    assert word(said) == meant


def test_messages_become_one_text_whose_end_is_kept() -> None:
    assert detail_of(status("closed")) is None
    assert detail_of(status("closed", details=["a", 7, "b"])) == "a\n7\nb"
    long = detail_of(status("closed", details=["é" * TEXT_BYTES_MAX, "the reason"]))
    assert long is not None and long.endswith("the reason")
    assert len(long.encode()) <= TEXT_BYTES_MAX
