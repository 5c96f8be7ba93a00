"""Reads a body as the type that a route takes, or names everything that is wrong.

A valid body is decoded once, by msgspec. The items of an array are counted before, unless the body
is too short to have too many of them. If an array is long, or one of its items is faulty, its items
are decoded one by one, and other requests run in between. Only a faulty value is checked member by
member (`faults.py`): its faults are reported with their JSON pointers, at most `FAULTS_MAX` of a
body. A body that is not JSON, not UTF-8 or nested too deep raises `BadRequest`. JSON of the wrong
form raises `Invalid`, and too many items raise `TooLarge`.
"""

import functools
import re
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from firmtrail.http.errors import FAULTS_MAX, BadRequest, Fault, Invalid, TooLarge
from firmtrail.http.faults import (
    alternative_of,
    bare_type,
    faults_of,
    first_fault,
    is_flat,
    without_leap_seconds,
)
from firmtrail.http.json_members import last_of_each
from firmtrail.http.pace import Pace
from firmtrail.http.scalars import SEQ_MAX
from firmtrail.http.surrogates import NUL, without_halves

ITEM_BYTES_MAX = 64 * 1024
"""Limits the size of an item that is checked member by member."""
WHOLE_BYTES_MAX = 256 * 1024
"""Limits the size of an array that is decoded in one piece."""

_ARRAY = re.compile(rb"[ \t\r\n]*\[")


def _number(text: str) -> int | float:
    """Returns a JSON number. JSON has one kind of number: 4711.0 is an integer, 1e400 infinite."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= SEQ_MAX else number


# Without a hook, msgspec takes long for a number such as 1e300 in a member of any type.
_decode_any = msgspec.json.Decoder(float_hook=_number).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode

type JsonText = bytes | msgspec.Raw
type BodyReader = Callable[[bytes], Awaitable[Any]]
type _ReadItems = Callable[[bytes, Pace], Awaitable[list[Any]]]


class FaultyItem(msgspec.Struct, frozen=True):
    """Holds the faults of a value of the wrong form, such as an item of an array."""

    faults: list[Fault]


@functools.cache
def body_reader(kind: Any, items_max: int = 1_000) -> BodyReader:
    """Returns a reader of bytes as `kind`: a Struct, or a union of a Struct and an array of it. It
    refuses an array with a faulty item."""
    read_items = _items_reader(kind, items_max, _refusing) if takes_arrays(kind) else None
    return _reader(kind, read_items)


@functools.cache
def skipping_reader(kind: Any, items_max: int = 1_000) -> BodyReader:
    """Returns a reader like `body_reader` that returns a `FaultyItem` for each faulty item."""
    return _reader(kind, _items_reader(kind, items_max, _skipping))


def _reader(kind: Any, read_items: _ReadItems | None) -> BodyReader:
    read_one = _one_reader(kind)

    def single(body: bytes) -> Any:
        value = read_one(body)
        if isinstance(value, FaultyItem):
            raise invalid(value.faults)
        return value

    async def read_checked(body: bytes) -> Any:
        if read_items is None or not is_array(body):
            return single(body)
        pace = Pace()
        if len(body) > ITEM_BYTES_MAX:
            await pace.pause()
        return await read_items(body, pace)

    async def read(body: bytes) -> Any:
        _check_utf8(body)
        try:
            return single(body) if body.startswith(b"{") else await read_checked(body)
        except BadRequest:
            if b"\\ud" not in body and b"\\uD" not in body:
                raise
            body = await without_halves(body, Pace())
        return await read_checked(body)

    return read


type _ReadOne = Callable[..., Any]
"""Reads a text as a Struct, or returns a `FaultyItem` with at most the given number of faults."""


def _one_reader(kind: Any) -> _ReadOne:
    decode = msgspec.json.Decoder(kind, float_hook=_number).decode

    def read_one(text: JsonText, pointer: str = "", faults_max: int = FAULTS_MAX) -> Any:
        try:
            value = decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            if memoryview(text).nbytes > ITEM_BYTES_MAX:
                return _first_fault(error, kind, pointer)
            return _read_untyped(text, kind, pointer, faults_max)
        if NUL in bytes(text):
            faults = faults_of(msgspec.to_builtins(value), kind, pointer, faults_max)
            return FaultyItem(faults) if faults else value
        return value

    return read_one


def _first_fault(error: Exception, kind: Any, pointer: str) -> FaultyItem:
    if not isinstance(error, msgspec.ValidationError):
        raise _malformed(error)
    return FaultyItem([first_fault(error, kind, pointer)])


def _read_untyped(text: JsonText, kind: Any, pointer: str, faults_max: int) -> Any:
    """Reads a text that the typed decoder refused; in most cases it is faulty."""
    try:
        value = without_leap_seconds(_decode_any(text), kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    faults = faults_of(value, kind, pointer, faults_max)
    return FaultyItem(faults) if faults else msgspec.convert(value, kind)


def _malformed(error: Exception) -> BadRequest:
    if isinstance(error, RecursionError):
        return BadRequest("The body is nested too deep.")
    return BadRequest(f"The body is not JSON: {error}.")


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: byte {error.start} is wrong.") from None


def is_array(body: bytes) -> bool:
    """Returns whether the text begins like a JSON array."""
    return _ARRAY.match(body) is not None


type _ReadEach = Callable[[_ReadOne, list[msgspec.Raw]], Iterator[Any]]


def _items_reader(kind: Any, items_max: int, read_each: _ReadEach) -> _ReadItems:
    item_kind = _item_kind(kind)
    read_one, open_array = _item_reader(item_kind), _array_opener(item_kind, items_max)

    async def read_items(body: bytes, pace: Pace) -> list[Any]:
        whole, texts = await open_array(body, pace)
        if whole is not None:
            return whole
        items: list[Any] = []
        for item in read_each(read_one, texts):
            items.append(item)
            if pace.is_due():
                await pace.pause()
        return items

    return read_items


def _refusing(read_one: _ReadOne, texts: list[msgspec.Raw]) -> Iterator[Any]:
    """Yields the items; raises `Invalid` at the end, or at the hundredth fault, if any."""
    faults: list[Fault] = []
    for index, text in enumerate(texts):
        item = read_one(text, f"/{index}", FAULTS_MAX - len(faults))
        if isinstance(item, FaultyItem):
            faults += item.faults
            if len(faults) == FAULTS_MAX:
                break
        yield item
    if faults:
        raise invalid(faults)


def _skipping(read_one: _ReadOne, texts: list[msgspec.Raw]) -> Iterator[Any]:
    """Yields the items; each faulty one has at least one fault, as the reason of its refusal."""
    left = FAULTS_MAX
    for text in texts:
        item = read_one(text, "", max(1, left))
        if isinstance(item, FaultyItem):
            left -= len(item.faults)
        yield item


def _item_reader(item_kind: Any) -> _ReadOne:
    """Returns a reader of one item; it checks each member of a long item once."""
    read_one, shortened = _one_reader(item_kind), last_of_each(item_kind)

    def read_item(text: msgspec.Raw, pointer: str, faults_max: int) -> Any:
        if memoryview(text).nbytes <= ITEM_BYTES_MAX:
            return read_one(text, pointer, faults_max)
        try:
            return read_one(shortened(text), pointer, faults_max)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _malformed(error) from None

    return read_item


type _OpenArray = Callable[[bytes, Pace], Awaitable[tuple[list[Any] | None, list[msgspec.Raw]]]]


def _array_opener(item_kind: Any, items_max: int) -> _OpenArray:
    """Returns a function that returns the items of an array, if it could be decoded in one piece,
    or None; and the texts of the items, each small enough to be read on its own."""
    decode_whole, check_sizes = _whole_decoder(item_kind), _size_check(item_kind)
    _counting(items_max)  # the first call takes long, so it is made here

    async def open_array(body: bytes, pace: Pace) -> tuple[list[Any] | None, list[msgspec.Raw]]:
        is_short = body.count(b"{") <= items_max  # each item of the right form is an object
        if is_short and (whole := decode_whole(body)) is not None:
            return whole, []
        texts = await _items(body, items_max, pace)
        whole = None if is_short else decode_whole(body)
        if whole is None:
            check_sizes(texts)
        return whole, texts

    return open_array


def _item_kind(kind: Any) -> Any:
    [item_kind] = typing.get_args(bare_type(alternative_of(kind, [])))
    return item_kind


async def _items(body: bytes, items_max: int, pace: Pace) -> list[msgspec.Raw]:
    """Returns the texts of an array's items. Raises `TooLarge` as soon as there are too many, so
    that no array costs more than the longest allowed one."""
    is_short = body.count(b",") < items_max
    if len(body) > ITEM_BYTES_MAX:
        await pace.pause()
    try:
        if is_short:
            return _decode_items(body)
        texts = msgspec.structs.astuple(_counting(items_max)(body))
    except msgspec.ValidationError:
        raise TooLarge(f"An array holds at most {items_max} items.") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    finally:
        if pace.is_due():
            await pace.pause()
    return [text for text in texts if text is not None]


@cache
def _counting(items_max: int) -> Callable[[bytes], msgspec.Struct]:
    """Returns a decoder of an array that stops at the first item beyond `items_max`. For a list,
    msgspec checks the length only after it has decoded all items."""
    fields = [(f"item_{index}", msgspec.Raw, None) for index in range(items_max)]
    kind = msgspec.defstruct("Items", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(kind).decode


def _whole_decoder(item_kind: Any) -> Callable[[bytes], list[Any] | None]:
    """Returns a decoder of short arrays of flat items, which is faster than one item at a time. It
    returns None for any other array, and for an array with a faulty item."""
    has_flat_items, decode = is_flat(item_kind), msgspec.json.Decoder(list[item_kind]).decode

    def decode_whole(body: bytes) -> list[Any] | None:
        if not has_flat_items or len(body) > WHOLE_BYTES_MAX or NUL in body:
            return None
        try:
            return decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None

    return decode_whole


def _size_check(item_kind: Any) -> Callable[[list[msgspec.Raw]], None]:
    """Returns a check of the size of items that are not flat and are decoded in one piece."""
    if is_flat(item_kind):
        return lambda _texts: None

    def check(texts: list[msgspec.Raw]) -> None:
        if any(memoryview(text).nbytes > ITEM_BYTES_MAX for text in texts):
            raise TooLarge(f"An item of an array has at most {ITEM_BYTES_MAX} bytes.")

    return check


def invalid(faults: list[Fault]) -> Invalid:
    """Returns the problem of a body or a query with these faults; there is at least one."""
    first = faults[0]
    where = first.pointer or first.parameter or "the body"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Invalid(f"{where}: {first.reason}{more}", faults=faults)


def is_optional(kind: Any) -> bool:
    """Returns whether a missing body means the same as an empty object."""
    try:
        msgspec.convert({}, kind)
    except msgspec.ValidationError:
        return False
    return True


def takes_arrays(kind: Any) -> bool:
    return typing.get_origin(bare_type(alternative_of(kind, []))) is list


def fault_text(faults: Iterable[Fault]) -> str:
    return "; ".join(f"{fault.pointer or '/'}: {fault.reason}" for fault in faults)
