"""Finds every fault of decoded JSON that does not fit the type that a route takes.

Only faulty values are checked here, so each member is checked alone and gets a JSON pointer. The
rules in a struct's `__post_init__` are checked as well as the types of its members. Faults are
found one after the other, so a caller that needs no more of them causes no more work.
"""

import itertools
import re
import types
import typing
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeAliasType, Union

import msgspec

from firmtrail.http.errors import FAULTS_MAX, Fault
from firmtrail.http.times import without_leap_second

REASON_CHARACTERS_MAX = 200
"""Limits the length of a reason, which may quote a long value."""

UNSTORABLE = "contains the character NUL or half of a surrogate pair, which no text may contain"

_TYPE = re.compile(r"`([a-z_| ]+)`")
_TYPE_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "datetime": "a time",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "a text",
}
"""Names types of JSON as people do."""

_PATH = re.compile(r" - at `\$\.(\w+)")

type BrokenRule = tuple[str, str]
"""Names a member that breaks a rule which its type cannot express, and the reason."""


class BrokenRules(ValueError):
    """Reports the rules that a struct's `__post_init__` found broken.

    The check also runs on a faulty body. A member that is missing or has the wrong type is then
    None, or has its default value.
    """

    def __init__(self, broken: Sequence[BrokenRule]) -> None:
        super().__init__(broken)
        self.broken = broken


def raise_if_broken(*found: BrokenRule | None) -> None:
    """Raises `BrokenRules` if any of the rules is broken; None stands for a rule that is kept."""
    if broken := [each for each in found if each is not None]:
        raise BrokenRules(broken)


def faults_of(
    value: object, kind: Any, pointer: str = "", faults_max: int = FAULTS_MAX
) -> list[Fault]:
    """Returns the faults of `value`, decoded JSON, as a `kind`: at most `faults_max` of them."""
    return list(itertools.islice(_faults(value, kind, pointer), faults_max))


def first_fault(error: msgspec.ValidationError, kind: Any, pointer: str) -> Fault:
    """Returns the fault that stopped a decoder of the Struct `kind`; it checked no further."""
    if isinstance(error.__cause__, BrokenRules):
        name, reason = error.__cause__.broken[0]
        return Fault(reason, pointer=f"{pointer}/{pointer_part(name)}")
    found = _PATH.search(str(error))
    field = _fields(kind).get(found[1]) if found else None
    if found is None or field is None:
        return Fault(reason_of(error, kind), pointer=pointer)
    return Fault(reason_of(error, field.type), pointer=f"{pointer}/{pointer_part(found[1])}")


def without_leap_seconds(value: Any, kind: Any) -> Any:
    """Returns `value` with each time in second 60 moved to the end of second 59."""
    if not _has_times(kind):
        return value
    alternative = alternative_of(kind, value)
    bare = bare_type(alternative)
    if isinstance(value, str):
        return without_leap_second(value)
    if isinstance(value, dict) and is_struct(bare):
        fields = _fields(bare)
        return {
            name: without_leap_seconds(member, fields[name].type) if name in fields else member
            for name, member in value.items()
        }
    if isinstance(value, list) and typing.get_origin(bare) is list:
        [item] = typing.get_args(bare)
        return [without_leap_seconds(each, item) for each in value]
    return value


@cache
def _has_times(kind: Any) -> bool:
    """Returns whether a value of this type can be or contain a time."""
    for part in map(bare_type, _parts(kind)):
        if part is datetime:
            return True
        inner = [field.type for field in _fields(part).values()] if is_struct(part) else ()
        if any(map(_has_times, inner or typing.get_args(part))):
            return True
    return False


def _faults(value: object, kind: Any, pointer: str) -> Iterator[Fault]:
    """Yields the faults of a value. A value with faulty members has no fault of its own, and is not
    checked as a whole."""
    if isinstance(value, str) and "\0" in value:
        yield Fault(UNSTORABLE, pointer=pointer)
        return
    alternative = alternative_of(kind, value)
    if isinstance(value, dict | list) and len(value) > (length_max := _length_max(alternative)):
        yield Fault(f"has more than {length_max} members", pointer=pointer)
        return
    inner = _inner_faults(value, alternative, pointer)
    first = next(inner, None)
    if first is not None:
        yield first
        yield from inner
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield Fault(reason_of(error, kind), pointer=pointer)


def _inner_faults(value: object, kind: Any, pointer: str) -> Iterator[Fault]:
    bare = bare_type(kind)
    if isinstance(value, dict) and is_struct(bare):
        yield from _member_faults(value, bare, pointer)
    elif isinstance(value, dict | list) and typing.get_args(bare)[-1:] == (Any,):
        yield from _faults_of_any(value, pointer)
    elif isinstance(value, dict) and typing.get_origin(bare) is dict:
        name_kind, member_kind = typing.get_args(bare)
        for name, member in value.items():
            yield from _faults(name, name_kind, f"{pointer}/{pointer_part(name)}")
            yield from _faults(member, member_kind, f"{pointer}/{pointer_part(name)}")
    elif isinstance(value, list) and typing.get_origin(bare) in {list, tuple}:
        item = typing.get_args(bare)[0]
        for index, each in enumerate(value):
            yield from _faults(each, item, f"{pointer}/{index}")


def _faults_of_any(value: dict[str, object] | list[object], pointer: str) -> Iterator[Fault]:
    """Yields the faults of members of any type: a text may be one that cannot be stored."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for name, member in members:
        if "\0" in str(name) or (isinstance(member, str) and "\0" in member):
            yield Fault(UNSTORABLE, pointer=f"{pointer}/{pointer_part(str(name))}")


def _member_faults(value: dict[str, object], kind: Any, pointer: str) -> Iterator[Fault]:
    fields = _fields(kind)
    good: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            is_good = True
            for fault in _faults(value[name], field.type, f"{pointer}/{pointer_part(name)}"):
                is_good = False
                yield fault
            if is_good:
                good[field.name] = msgspec.convert(value[name], field.type)
        elif field.required:
            yield Fault("is missing", pointer=f"{pointer}/{pointer_part(name)}")
    yield from _rule_faults(value, good, kind, pointer)
    if kind.__struct_config__.forbid_unknown_fields:
        for name in value:
            if name not in fields:
                known = f"is unknown here: the names are {', '.join(fields)}"
                yield Fault(known, pointer=f"{pointer}/{pointer_part(name)}")


def _rule_faults(
    value: dict[str, object], good: dict[str, Any], kind: Any, pointer: str
) -> Iterator[Fault]:
    """Yields the rules that the members of the right type break, whatever the others are."""
    required = (field.name for field in _fields(kind).values() if field.required)
    try:
        kind(**(dict.fromkeys(required) | good))
    except BrokenRules as error:
        for name, reason in error.broken:
            if name in value and name not in good:
                continue  # the member has the wrong type, which is reported already
            yield Fault(reason, pointer=f"{pointer}/{pointer_part(name)}")


@cache
def _fields(kind: Any) -> dict[str, msgspec.structs.FieldInfo]:
    """Returns the members of a Struct by their names in JSON."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def pointer_part(name: str) -> str:
    """Returns a name, escaped as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def reason_of(error: msgspec.ValidationError, kind: Any) -> str:
    """Returns in words what is wrong with a value, or what a value of `kind` would be."""
    message, _, _ = str(error).partition(" - at ")
    expected = next((meta.description for meta in _metas(kind) if meta.description), "")
    if "matching regex" in message and expected:
        return f"expected {expected}"
    if "RFC3339 encoded datetime" in message:
        return "expected a time such as 2026-03-15T02:00:00Z"
    reason = _TYPE.sub(_in_words, message[:1].lower() + message[1:])
    if reason.startswith("invalid enum value") and (values := [*_literals(kind)]):
        reason = f"expected one of {', '.join(map(str, values))}"
    if len(reason) > REASON_CHARACTERS_MAX:
        return f"{reason[:REASON_CHARACTERS_MAX]}…"
    return reason


def _in_words(found: re.Match[str]) -> str:
    """Returns the types that msgspec names in words: `int | null` is "a whole number or null"."""
    types = found[1].split(" | ")
    if not set(types) <= _TYPE_WORDS.keys():
        return found[0]
    return " or ".join(_TYPE_WORDS[each] for each in types)


def bare_type(kind: Any) -> Any:
    """Returns the type without aliases and annotations."""
    while True:
        if isinstance(kind, TypeAliasType):
            kind = kind.__value__
        elif typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        else:
            return kind


def _metas(kind: Any) -> Iterator[msgspec.Meta]:
    while isinstance(kind, TypeAliasType):
        kind = kind.__value__
    if typing.get_origin(kind) is typing.Annotated:
        yield from (meta for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta))
    for alternative in alternatives(bare_type(kind)):
        yield from _metas(alternative)


def _literals(kind: Any) -> Iterator[object]:
    """Yields the values that a type lists, or the type of its items. It yields none for a mapping,
    whose keys and values are of different types."""
    bare = bare_type(kind)
    if typing.get_origin(bare) is typing.Literal:
        yield from typing.get_args(bare)
    elif typing.get_origin(bare) is not dict:
        for part in typing.get_args(bare):
            yield from _literals(part)


def _length_max(kind: Any) -> float:
    lengths = (meta.max_length for meta in _metas(kind) if meta.max_length is not None)
    return min(lengths, default=float("inf"))


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Returns the types that form a union; none for any other type."""
    is_union = typing.get_origin(kind) in {Union, types.UnionType}
    return typing.get_args(kind) if is_union else ()


def _parts(kind: Any) -> tuple[Any, ...]:
    return alternatives(bare_type(kind)) or (kind,)


def alternative_of(kind: Any, value: object) -> Any:
    """Returns the type in a union that a JSON object or array means, or `kind` if there is none."""
    for alternative in alternatives(bare_type(kind)):
        bare = bare_type(alternative)
        if isinstance(value, dict) and (is_struct(bare) or typing.get_origin(bare) is dict):
            return alternative
        if isinstance(value, list) and typing.get_origin(bare) in {list, tuple}:
            return alternative
    return kind


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def is_flat(kind: Any) -> bool:
    """Returns whether no member of the Struct is an array or an object.

    Such a Struct is quick to decode whatever the text holds, because the decoder only skips the
    members that it does not know.
    """
    return not any(
        is_struct(bare_type(part)) or typing.get_origin(bare_type(part)) in {list, tuple, dict}
        for field in msgspec.structs.fields(kind)
        for part in _parts(field.type)
    )
