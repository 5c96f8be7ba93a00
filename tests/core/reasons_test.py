"""Tests what a reason says of a value that is none of those that a type lists."""

from enum import Enum
from typing import Any, Literal

import msgspec
import pytest

from firmtrail.http.faults import reason_of

type Color = Literal["red", "blue"]


class Painted(msgspec.Struct, frozen=True):
    color: Color


class Shade(Enum):
    DARK = "dark"


type Long = Literal[
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
]


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ("green", Color, "expected one of red, blue"),
        (["green"], list[Color] | None, "expected one of red, blue"),
        ({"color": "green"}, Painted, "invalid enum value 'green'"),
        ("light", Shade, "invalid enum value 'light'"),
        ({"red": 3}, dict[Color, Literal[1, 2]], "invalid enum value 3"),
        ("green", Long, f"expected one of {'a' * 80}, {'b' * 80}, {'c' * 20}"),
    ],
)
def test_a_reason_lists_the_values_of_the_type_itself(value: Any, kind: Any, says: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(value, kind)
    assert reason_of(raised.value, kind).rstrip("…") == says
