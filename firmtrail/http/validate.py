"""Reads a body or a query as what the route takes, or names everything that is wrong with it.

A valid body costs one typed msgspec decode. The items of an array are counted before any of them
is looked at, decoded one by one, and between pieces of the work other requests have their turn.
Only what is faulty is gone through member by member (`faults.py`), to name its faults (at most
`FAULTS_MAX` of a body) with their JSON pointers. A body that is no JSON, is no UTF-8 or nests too
deep is `BadRequest`; one that is JSON and wrong is `Invalid`; too many items are `TooLarge`.
"""

import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
from multidict import MultiMapping

from firmtrail.http import faults as found
from firmtrail.http.errors import FAULTS_MAX, BadRequest, Fault, Invalid, TooLarge
from firmtrail.http.faults import faults_of
from firmtrail.http.members import last_of_each
from firmtrail.http.pace import Pace
from firmtrail.http.scalars import SEQ_MAX
from firmtrail.http.surrogates import NUL, without_halves

ITEM_BYTES_MAX = 64 * 1024
"""Of an item that is gone through member by member."""
WHOLE_BYTES_MAX = 256 * 1024
"""Of an array that is decoded in one piece."""

_ARRAY = re.compile(rb"[ \t\r\n]*\[")


def _number(text: str) -> int | float:
    """JSON knows one kind of number: 4711.0 is an integer. 1e400 is well-formed, and no number."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= SEQ_MAX else number


_decode_any = msgspec.json.Decoder(float_hook=_number).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode

type JsonText = bytes | msgspec.Raw
type BodyReader = Callable[[bytes], Awaitable[Any]]
type _ReadItems = Callable[[bytes, Pace], Awaitable[list[Any]]]


class FaultyItem(msgspec.Struct, frozen=True):
    """An item of an array that is not what it should be."""

    faults: list[Fault]


def body_reader(kind: Any, items_max: int = 1_000) -> BodyReader:
    """Returns what reads bytes as `kind`: a Struct, or a union of a Struct and an array of it."""
    return _reader(kind, _refusing_items(kind, items_max) if takes_arrays(kind) else None)


def skipping_reader(kind: Any, items_max: int = 1_000) -> BodyReader:
    """As `body_reader`, but a faulty item of an array becomes a `FaultyItem` in its place."""
    return _reader(kind, _skipping_items(kind, items_max))


def _reader(kind: Any, read_items: _ReadItems | None) -> BodyReader:
    read_one = _one_reader(kind)

    def single(body: bytes) -> Any:
        value = read_one(body)
        if isinstance(value, FaultyItem):
            raise _invalid(value.faults)
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
            mended = await without_halves(body, Pace())
        return await read_checked(mended)

    return read


type _ReadOne = Callable[..., Any]
"""Reads text as a Struct, or as `FaultyItem` with so many faults at most."""


def _one_reader(kind: Any) -> _ReadOne:
    decode = msgspec.json.Decoder(kind).decode

    def read_one(text: JsonText, pointer: str = "", faults_max: int = FAULTS_MAX) -> Any:
        try:
            value = decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            if memoryview(text).nbytes > ITEM_BYTES_MAX:
                return _first_fault(error, kind, pointer)
            return _read_slowly(text, kind, pointer, faults_max)
        if NUL in bytes(text):
            faults = faults_of(msgspec.to_builtins(value), kind, pointer, faults_max)
            return FaultyItem(faults) if faults else value
        return value

    return read_one


def _first_fault(error: Exception, kind: Any, pointer: str) -> FaultyItem:
    if not isinstance(error, msgspec.ValidationError):
        raise _malformed(error)
    return FaultyItem([found.first_fault(error, kind, pointer)])


def _read_slowly(text: JsonText, kind: Any, pointer: str, faults_max: int) -> Any:
    """Read what the typed decoder would not take; mostly there is something wrong with it."""
    value = found.without_leap_seconds(_parsed(text), kind)
    faults = faults_of(value, kind, pointer, faults_max)
    return FaultyItem(faults) if faults else msgspec.convert(value, kind)


def _parsed(text: JsonText) -> object:
    """Any JSON value; raises `BadRequest` for what is none."""
    try:
        return _decode_any(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> BadRequest:
    if isinstance(error, RecursionError):
        return BadRequest("The body nests too deep.")
    return BadRequest(f"The body is not JSON: {error}.")


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: byte {error.start}.") from None


def is_array(body: bytes) -> bool:
    """Whether the text begins as a JSON array does."""
    return _ARRAY.match(body) is not None


def _refusing_items(kind: Any, items_max: int) -> _ReadItems:
    item_kind = _item_kind(kind)
    read_one, open_array = _item_reader(item_kind), _array_opener(item_kind, items_max)

    async def read_items(body: bytes, pace: Pace) -> list[Any]:
        whole, texts = await open_array(body, pace)
        if whole is not None:
            return whole
        items: list[Any] = []
        faults: list[Fault] = []
        for index, text in enumerate(texts):
            item = read_one(text, f"/{index}", FAULTS_MAX - len(faults))
            if isinstance(item, FaultyItem):
                faults += item.faults
                if len(faults) == FAULTS_MAX:
                    break
            items.append(item)
            if pace.is_due():
                await pace.pause()
        if faults:
            raise _invalid(faults)
        return items

    return read_items


def _skipping_items(kind: Any, items_max: int) -> _ReadItems:
    """Every faulty item gets one fault at least, so that it is refused for a reason."""
    item_kind = _item_kind(kind)
    read_one, open_array = _item_reader(item_kind), _array_opener(item_kind, items_max)

    async def read_items(body: bytes, pace: Pace) -> list[Any]:
        whole, texts = await open_array(body, pace)
        if whole is not None:
            return whole
        items: list[Any] = []
        left = FAULTS_MAX
        for text in texts:
            item = read_one(text, "", max(1, left))
            if isinstance(item, FaultyItem):
                left -= len(item.faults)
            items.append(item)
            if pace.is_due():
                await pace.pause()
        return items

    return read_items


def _item_reader(item_kind: Any) -> _ReadOne:
    """Returns what reads an item's text; of a long one, each member is looked at once."""
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
    """Returns what gives an array's items, decoded in one piece if that is possible, and their
    texts, which are of a size that can be read one by one."""
    decode_whole, check_sizes = _whole_decoder(item_kind), _size_check(item_kind)
    _counting(items_max)  # which takes long the first time

    async def open_array(body: bytes, pace: Pace) -> tuple[list[Any] | None, list[msgspec.Raw]]:
        texts = await _items(body, items_max, pace)
        whole = decode_whole(body)
        if whole is None:
            check_sizes(texts)
        return whole, texts

    return open_array


def _item_kind(kind: Any) -> Any:
    [item_kind] = typing.get_args(found.bare_type(found.alternative_of(kind, [])))
    return item_kind


async def _items(body: bytes, items_max: int, pace: Pace) -> list[msgspec.Raw]:
    """The texts of an array's items. Raises `TooLarge` as soon as there are too many, so that an
    array costs no more than the longest that is taken."""
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
    """What decodes an array of so many items at most, and stops at the first that is too many: of
    a list, msgspec checks the length when it has decoded all."""
    fields = [(f"item_{index}", msgspec.Raw, None) for index in range(items_max)]
    kind = msgspec.defstruct("Items", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(kind).decode


def _whole_decoder(item_kind: Any) -> Callable[[bytes], list[Any] | None]:
    """Returns what decodes a short array of flat items in one piece, which is faster; it gives None
    for any other array, and for one that is not wholly good."""
    is_flat, decode = found.is_flat(item_kind), msgspec.json.Decoder(list[item_kind]).decode

    def decode_whole(body: bytes) -> list[Any] | None:
        if not is_flat or len(body) > WHOLE_BYTES_MAX or NUL in body:
            return None
        try:
            return decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None

    return decode_whole


def _size_check(item_kind: Any) -> Callable[[list[msgspec.Raw]], None]:
    """Items that hold arrays or objects are decoded in one piece, so their size is bounded."""
    if found.is_flat(item_kind):
        return lambda _texts: None

    def check(texts: list[msgspec.Raw]) -> None:
        if any(memoryview(text).nbytes > ITEM_BYTES_MAX for text in texts):
            raise TooLarge(f"An item of an array has at most {ITEM_BYTES_MAX} bytes.")

    return check


def _invalid(faults: list[Fault]) -> Invalid:
    return Invalid(_summary(faults), faults=faults)


def _summary(faults: list[Fault]) -> str:
    first = faults[0]
    where = first.pointer or first.parameter or "the body"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {first.reason}{more}"


def query_reader(kind: type[msgspec.Struct]) -> Callable[[MultiMapping[str]], Any]:
    """Read query parameters as the Struct; each is checked alone, so all faults are named.

    A space is read as "+": nothing that a query takes holds a space, and versions, times and
    addresses with a bare "+" arrive as one.
    """
    fields = msgspec.structs.fields(kind)
    parameters = {field.encode_name: _parameter_reader(field.type) for field in fields}
    required = {field.encode_name for field in fields if field.required}

    def read(query: MultiMapping[str]) -> Any:
        values, faults = _read_parameters(query, parameters)
        faults += [Fault("is missing", parameter=name) for name in required - query.keys()]
        if faults:
            raise _invalid(faults[:FAULTS_MAX])
        return msgspec.convert(values, kind)

    return read


def _read_parameters(
    query: MultiMapping[str], parameters: Mapping[str, Callable[[str], Any]]
) -> tuple[dict[str, Any], list[Fault]]:
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, text in query.items():
        if name not in parameters:
            faults.append(Fault("is unknown here", parameter=name))
        elif name in values:
            faults.append(Fault("is given twice", parameter=name))
        else:
            try:
                values[name] = parameters[name](text.replace(" ", "+"))
            except msgspec.ValidationError as error:
                faults.append(Fault(str(error), parameter=name))
    return values, faults


def _parameter_reader(kind: Any) -> Callable[[str], Any]:
    [wanted] = _without_none(kind)

    def read(text: str) -> Any:
        try:
            return msgspec.convert(text, wanted, strict=False)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(found.reason_of(error, wanted)) from None

    return read


def _without_none(kind: Any) -> list[Any]:
    return [
        arm for arm in found.alternatives(found.bare_type(kind)) if arm is not types.NoneType
    ] or [kind]


def is_optional(kind: Any) -> bool:
    """Whether no body at all means the same as an empty object."""
    try:
        msgspec.convert({}, kind)
    except msgspec.ValidationError:
        return False
    return True


def takes_arrays(kind: Any) -> bool:
    """Whether the body may be an array."""
    return typing.get_origin(found.bare_type(found.alternative_of(kind, []))) is list


def fault_text(faults: Iterable[Fault]) -> str:
    return "; ".join(f"{fault.pointer or '/'}: {fault.reason}" for fault in faults)
