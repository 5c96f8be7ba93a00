"""Tests that no log line is lost, and that those of one turn of the loop are written together."""

import asyncio
import io
from collections.abc import Iterator
from typing import override

import pytest
import structlog

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


async def test_a_broken_pipe_stops_nothing() -> None:
    logs.configure(Broken())
    structlog.get_logger().info("request")
    await asyncio.sleep(0)
