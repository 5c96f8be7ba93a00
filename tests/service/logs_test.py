"""Tests that no log line is lost, and that those of one turn of the loop are written together."""

import asyncio
import io
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import override

import msgspec
import pytest
import structlog

from firmtrail import config
from firmtrail.cli import logs
from tests.own_log import own_log


class Stream(io.StringIO):
    """Takes texts like a pipe, and remembers how they were written."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []

    @override
    def write(self, text: str, /) -> int:
        self.taken.append(text)
        return len(text)


class Broken(Stream):
    """Stands for a pipe whose reader is gone."""

    @override
    def write(self, text: str, /) -> int:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with own_log():
        yield


async def test_the_lines_of_one_turn_are_written_together() -> None:
    stream = Stream()
    logs.configure(stream)
    for number in range(3):
        structlog.get_logger().info("request", number=number)
    assert not stream.taken
    await asyncio.sleep(0)
    [text] = stream.taken
    assert [line.count(f'"number":{n}') for n, line in enumerate(text.splitlines())] == [1, 1, 1]


async def test_a_thread_writes_its_lines_immediately() -> None:
    stream = Stream()
    logs.configure(stream)
    await asyncio.to_thread(structlog.get_logger().info, "request")
    assert len(stream.taken) == 1


def test_a_line_has_its_time_in_utc_with_microseconds() -> None:
    stream = Stream()
    logs.configure(stream)
    began = datetime.now(UTC)
    structlog.get_logger().info("request")
    text = msgspec.json.decode(stream.taken[0])["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert began <= datetime.fromisoformat(text) <= datetime.now(UTC)


async def test_a_broken_pipe_stops_nothing() -> None:
    logs.configure(Broken())
    structlog.get_logger().info("request")
    await asyncio.sleep(0)


class Terminal(Stream):
    """Takes texts like a terminal."""

    @override
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "form", "is_json"),
    [
        (Terminal(), "json", True),
        (Stream(), "text", False),
        (Terminal(), "auto", False),
        (Stream(), "auto", True),
    ],
)
async def test_the_form_and_the_level_of_lines_can_be_chosen(
    stream: Stream, form: config.LogFormat, is_json: bool
) -> None:
    logs.configure(stream, "warning", form)
    structlog.get_logger().info("left out")
    structlog.get_logger().warning("kept", number=1)
    logging.getLogger("library").warning("kept too")
    await asyncio.sleep(0)
    lines = "".join(stream.taken).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("{") == is_json for line in lines)
